"""The probe as an image, and one server for the tests of a module and a runner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.contract.contract_harness import IMAGE, PROBE, Platform, write_images
from tests.emulator.emulator_harness import running
from tests.images import docker


@pytest.fixture(scope="session")
def probe_image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("probe")
    (folder / "probe.py").write_bytes(PROBE.read_bytes())
    lines = [f"FROM {base_image}", "RUN ln -sf /usr/bin/python3.11 /usr/local/bin/python3", "COPY probe.py /probe.py"]
    lines += [f"ENTRYPOINT {json.dumps(['python3', '/probe.py'])}"]
    (folder / "Dockerfile").write_text("\n".join(lines))
    docker("build", "--quiet", "--tag", IMAGE, str(folder))
    return IMAGE


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
