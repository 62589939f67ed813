"""boto3 clients that several threads want at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kennel.driver.session.clients import Clients
from kennel.driver.session.whereabouts import Emulator

pytestmark = pytest.mark.pure

THREADS = 8


def test_threads_that_want_a_client_at_once_get_the_same_one() -> None:
    clients = Clients("us-east-1", Emulator(1, "http://127.0.0.1:1", "us-east-1", "KEY", "SECRET"))
    gate = threading.Barrier(THREADS)

    def want(_: int) -> Any:
        gate.wait(60)
        return clients("sagemaker-runtime")

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(want, range(THREADS)))
    assert len({id(one) for one in found}) == 1
