"""One server with the echo image for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator.emulator_harness import Emulator, running
from tests.emulator.transform.transform_harness import make_model, write_images


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("transform")
    with running(write_images(folder / "home")) as server:
        make_model(server, folder / "model", Environment={"MY_WORD": "model", "MY_OTHER": "model"})
        yield server
