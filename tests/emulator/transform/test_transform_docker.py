"""A transform job whose containers are containers, with a kill in the middle."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.emulator.emulator_harness import running, wait_for
from tests.emulator.transform.transform_harness import ECHO, IMAGE, job_request, make_model, outputs, said, wait, write
from tests.images import build_program, docker

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def echo_image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_program(base_image, ECHO, IMAGE, tmp_path_factory.mktemp("echo"))


@pytest.mark.usefixtures("echo_image")
def test_a_job_in_containers_goes_on_after_a_kill_and_leaves_no_container(tmp_path: Path):
    home = tmp_path / "home"
    lines = {f"n{number}_txt": f"sleep 0.5 {number}\n{number}" for number in range(6)}
    write(tmp_path, **lines)
    options = {"data": {"SplitType": "Line"}, "output": {"AssembleWith": "Line"}}
    mine = ["ps", "--all", "--quiet", f"--filter=label=kennel.home={home}"]
    with running(home, "--runner", "docker") as first:
        make_model(first, tmp_path / "model")
        first.client("sagemaker").create_transform_job(**job_request("boxed", tmp_path, **options))
        wait_for((tmp_path / "output/n0.txt.out").exists)
        first.stop(signal.SIGKILL)
    assert docker(*mine).stdout.strip()  # it does not know yet
    with running(home, "--runner", "docker") as second:
        found = wait(second, "boxed")
        assert found["TransformJobStatus"] == "Completed", found
        assert outputs(tmp_path) == {f"n{number}.txt.out": [f"sleep 0.5 {number}", str(number)] for number in range(6)}
        start = said(second, "boxed", "starts")[-1]
        assert (start["arguments"], start["model"]) == (["serve"], ["weights.txt"])
        assert start["environ"]["SAGEMAKER_BATCH"] == "true"
    assert not docker(*mine).stdout.strip()
