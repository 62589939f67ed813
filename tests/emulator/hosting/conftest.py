"""The image of echo.py for docker, under the name that the process runner knows as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.emulator_harness import running
from tests.emulator.hosting.hosting_harness import ECHO, IMAGE, Hosted, make_home
from tests.images import build_program


@pytest.fixture
def runner_name(request: pytest.FixtureRequest) -> str:
    """The process runner; tests of both are parametrised with `both_runners`."""
    return getattr(request, "param", "process")


@pytest.fixture(scope="session")
def echo_image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    label = "LABEL com.amazonaws.sagemaker.capabilities.multi-models=true"
    return build_program(base_image, ECHO, IMAGE, tmp_path_factory.mktemp("echo"), label)


@pytest.fixture
def echo_image_if_docker(runner_name: str, request: pytest.FixtureRequest) -> None:
    if runner_name == "docker":
        request.getfixturevalue("echo_image")


@pytest.fixture
def hosted(runner_name: str, tmp_path: Path, echo_image_if_docker: None) -> Iterator[Hosted]:  # noqa: ARG001
    """A server of its own, whose endpoints end with the test."""
    home = make_home(tmp_path / "home")
    with running(home.path, "--runner", runner_name) as emulator:
        made = Hosted(emulator, tmp_path)
        yield made
        made.delete_all()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A server with plain processes for the tests of a module; each has an endpoint of its own name."""
    folder = tmp_path_factory.mktemp("shared")
    home = make_home(folder / "home")
    with running(home.path) as emulator:
        made = Hosted(emulator, folder)
        yield made
        made.delete_all()
