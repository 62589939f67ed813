"""A transform job whose containers are containers, with a kill in the middle."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.emulator.emulator_harness import running, wait_for
from tests.emulator.transform.transform_harness import (
    ECHO,
    IMAGE,
    job_request,
    make_model,
    outputs,
    run,
    said,
    wait,
    write,
)
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


@pytest.mark.usefixtures("echo_image")
@pytest.mark.parametrize("turn", range(4))
def test_the_first_transform_of_a_fresh_server_has_all_its_answers(tmp_path: Path, turn: int):
    home = tmp_path / "home"
    words = {f"n{number:02}_txt": f"word {number} of {turn}" for number in range(12)}
    write(tmp_path, **words)
    limits = {"MaxConcurrentTransforms": 6, "MaxPayloadInMB": 6, "BatchStrategy": "SingleRecord"}  # none is asked for
    for number in range(5):  # twenty servers in all
        with running(home, "--runner", "docker") as server:
            if not number:
                make_model(server, tmp_path / "model")
            output = {"S3OutputPath": (tmp_path / f"{number}/output").as_uri()}
            found = run(server, job_request(f"first-{number}", tmp_path, output=output, **limits))
            assert found["TransformJobStatus"] == "Completed", (number, found)
            assert outputs(tmp_path / str(number)) == {
                f"{name.replace('_', '.')}.out": [text] for name, text in words.items()
            }
