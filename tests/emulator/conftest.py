"""One server for the tests of a module; each test has names of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator.emulator_harness import Emulator, running


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running(tmp_path_factory.mktemp("emulator") / "home") as server:
        yield server
