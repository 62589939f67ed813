"""One server for the tests of a module, which knows the image "bowl"."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator.emulator_harness import Emulator, running
from tests.emulator.tuning.tuning_harness import write_images


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    home = tmp_path_factory.mktemp("emulator") / "home"
    write_images(home)
    with running(home) as server:
        yield server
