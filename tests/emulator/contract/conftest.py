"""The probe as an image, and one server for the tests of a module and a runner."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator.contract.contract_harness import IMAGE, PROBE, Platform, write_images
from tests.emulator.emulator_harness import running
from tests.images import build_program


@pytest.fixture(scope="session")
def probe_image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_program(base_image, PROBE, IMAGE, tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module")
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server with the runner that `both_runners` names."""
    if request.param == "docker":
        request.getfixturevalue("probe_image")
    folder = tmp_path_factory.mktemp(request.param)
    write_images(folder / "home")
    with running(folder / "home", "--runner", request.param) as emulator:
        made = Platform(emulator, request.param, folder)
        yield made
        made.delete_all()
