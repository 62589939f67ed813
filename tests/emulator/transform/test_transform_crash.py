"""kill -9 of the emulator during a transform: the next one goes on with what is not done, and nothing is stuck."""

from __future__ import annotations

import signal
from pathlib import Path

from kennel.emulator.runners.child import LAUNCH
from kennel.emulator.state.home import Home
from tests.emulator.emulator_harness import running, wait_for
from tests.emulator.transform.transform_harness import (
    job_request,
    make_model,
    outputs,
    said,
    wait,
    write,
    write_images,
)


def test_a_job_goes_on_after_a_kill_with_the_objects_that_are_not_done(tmp_path: Path):
    home = write_images(tmp_path / "home")
    names = [f"n{number:02}" for number in range(12)]
    write(tmp_path, **{f"{name}_txt": f"sleep 0.3 {name}" for name in names})
    nested = {"S3OutputPath": (tmp_path / "input/answers").as_uri()}  # outputs must not become inputs
    with running(home) as first:
        make_model(first, tmp_path / "model")
        first.client("sagemaker").create_transform_job(**job_request("killed", tmp_path, output=nested))
        wait_for(lambda: len(list((tmp_path / "input/answers").glob("*.out"))) >= 3)
        first.stop(signal.SIGKILL)
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "input/answers").glob("n*.out")}
    assert len(written) < len(names)
    half = tmp_path / f"input/answers/.{names[-1]}.txt.out.12345.tmp"
    half.write_text("half")  # as a kill leaves it between copy and replacement
    with running(home) as second:
        second.client("sagemaker").delete_model(ModelName="echo")  # the job has its own copy
        found = wait(second, "killed")
        assert found["TransformJobStatus"] == "Completed", found
        answers = tmp_path / "input/answers"
        assert sorted(path.name for path in answers.iterdir()) == [f"{name}.txt.out" for name in names]
        again = [name for name, changed in written.items() if (answers / name).stat().st_mtime_ns != changed]
        assert len(again) <= 1  # one that was written when the kill came, and not noted yet
        assert len(said(second, "killed", "starts")) == 2
        assert len(said(second, "killed", "request")) <= len(names) + 3
        assert not list((home / "runs").iterdir())  # neither container is left


def test_a_failure_before_the_kill_is_still_the_reason_after_it(tmp_path: Path):
    home = write_images(tmp_path / "home")
    write(tmp_path, a_txt="fail first", b_txt="fine", c_txt="sleep 3 c", d_txt="fine")
    with running(home) as first:
        make_model(first, tmp_path / "model")
        first.client("sagemaker").create_transform_job(**job_request("failing", tmp_path))
        wait_for((tmp_path / "output/b.txt.out").exists)
        first.stop(signal.SIGKILL)
    with running(home) as second:
        found = wait(second, "failing")
        assert found["TransformJobStatus"] == "Failed"
        assert found["FailureReason"].startswith("AlgorithmError: 'a.txt': the container answered 400")
        assert "1 of 4 objects failed" in found["FailureReason"]
        assert outputs(tmp_path).keys() == {"b.txt.out", "c.txt.out", "d.txt.out"}
        second.stop(signal.SIGKILL)
    left = Home(home).transform_dir("failing")
    left.mkdir(parents=True, exist_ok=True)  # as a kill leaves it between the last status and the end
    with running(home):
        wait_for(lambda: not left.exists())


def test_a_job_that_was_stopping_is_stopped_and_a_clean_end_of_the_server_keeps_a_job(tmp_path: Path):
    home = write_images(tmp_path / "home")
    write(tmp_path, a_txt="one", b_txt="sleep 5 b")
    with running(home) as first:
        make_model(first, tmp_path / "model")
        first.client("sagemaker").create_transform_job(**job_request("kept", tmp_path))
        wait_for((tmp_path / "output/a.txt.out").exists)
        assert first.stop() == 0
        assert not list((home / "runs").iterdir())
    with running(home) as second:
        client = second.client("sagemaker")
        assert client.describe_transform_job(TransformJobName="kept")["TransformJobStatus"] == "InProgress"
        wait_for(lambda: list((home / "runs").glob(f"*/{LAUNCH}")))  # a folder without it is of no process
        client.stop_transform_job(TransformJobName="kept")
        second.stop(signal.SIGKILL)
    with running(home) as third:
        assert wait(third, "kept")["TransformJobStatus"] == "Stopped"
        assert outputs(tmp_path) == {"a.txt.out": ["one"]}
        assert not list((home / "runs").iterdir()), "the container of the killed server is gone"
