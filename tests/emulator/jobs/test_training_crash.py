"""kill -9 at every stage of a job: a new server takes it up, nothing is lost and nothing stays InProgress."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.emulator.jobs.conftest import Platform, both, channel
from tests.images import docker

Server = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def server(platform: Platform) -> Iterator[Server]:
    """Start a server over the platform's folder; the platform itself only looks on."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, Path(__file__).with_name("server.py"), platform.home.path, platform.runner.name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def ended(platform: Platform) -> None:
    platform.wait_for(lambda: platform.describe()["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"), 60)


COUNTS = (
    "for i in range(60):\n    print('line', i, 'value=%d' % i); time.sleep(.1)\n"
    "(base / 'model/w').write_text('whole')\n"
)


@both
def test_a_running_job_is_found_again_and_no_line_is_lost_or_doubled(platform: Platform, server: Server) -> None:
    definitions = [{"Name": "value", "Regex": "value=([0-9]+)"}]
    platform.insert(COUNTS, AlgorithmSpecification={"MetricDefinitions": definitions})
    first = server()
    platform.wait_for_line("line 5 ")
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(1)  # it goes on without a server
    second = server()
    platform.wait_for_line("line 25 ")
    second.send_signal(signal.SIGKILL)
    second.wait()
    server()
    ended(platform)
    document = platform.describe()
    assert document["TrainingJobStatus"] == "Completed", document
    assert platform.lines() == [f"line {i} value={i}" for i in range(60)]
    assert platform.members() == {"w": "whole"}
    assert platform.statuses() == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert [one["Value"] for one in document["FinalMetricDataList"]] == [59]
    assert len(platform.home.metrics_file("job").read_text().splitlines()) == 60


@both
def test_a_job_that_ends_while_no_server_runs_is_completed_by_the_next(platform: Platform, server: Server) -> None:
    platform.insert("print('up')\ntime.sleep(1.5); (base / 'model/w').write_text('whole')")
    first = server()
    platform.wait_for_line("up")
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(2.5)
    server()
    ended(platform)
    assert platform.describe()["TrainingJobStatus"] == "Completed"
    assert platform.members() == {"w": "whole"}


@both
def test_a_program_that_vanished_while_no_server_ran_makes_the_job_failed(platform: Platform, server: Server) -> None:
    platform.insert("print('up')\nwhile True: time.sleep(.1)")
    first = server()
    platform.wait_for_line("up")
    platform.wait_for(lambda: platform.describe()["_life"]["phase"] == "running")  # before that it is begun again
    first.send_signal(signal.SIGKILL)
    first.wait()
    [handle] = platform.runner.find("kennel.job", "job")
    if platform.runner.name == "docker":
        docker("rm", "--force", handle)
    else:
        platform.runner.remove(handle)
    server()
    ended(platform)
    document = platform.describe()
    assert document["TrainingJobStatus"] == "Failed"
    assert document["FailureReason"].startswith("InternalServerError: algo-1: ")


@both
def test_a_stop_that_was_asked_for_before_the_kill_is_carried_out(platform: Platform, server: Server) -> None:
    platform.insert(
        "signal.signal(signal.SIGTERM, lambda *_: ((base / 'model/w').write_text('saved'), sys.exit(0)))\n"
        "print('up')\nwhile True: time.sleep(.05)"
    )
    first = server()
    platform.wait_for_line("up")
    first.send_signal(signal.SIGKILL)
    first.wait()
    platform.store.update("training-job", "job", lambda d: d.update(TrainingJobStatus="Stopping"))
    server()
    ended(platform)
    assert platform.describe()["TrainingJobStatus"] == "Stopped"
    assert platform.members() == {"w": "saved"}


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15, 0.3, 0.6])
@both
def test_a_kill_at_any_moment_leaves_a_job_that_ends_once(platform: Platform, server: Server, delay_s: float) -> None:
    platform.insert("print('up'); (base / 'model/w').write_text('whole'); time.sleep(.3)")
    first = server()
    time.sleep(delay_s)
    first.send_signal(signal.SIGKILL)
    first.wait()
    server()
    ended(platform)
    assert platform.describe()["TrainingJobStatus"] == "Completed", platform.describe()
    assert platform.members() == {"w": "whole"}
    platform.wait_for(lambda: not platform.runner.find("kennel.job"))
    assert platform.statuses().count("Completed") == 1


def test_a_pipe_flows_on_while_no_server_runs(platform: Platform, server: Server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "numbers").write_text("".join(f"{i:07}\n" for i in range(200_000)))
    platform.insert(
        "p = open(base / 'input/data/train_0'); n = 0\n"
        "for line in p:\n"
        "    assert int(line) == n; n += 1\n"
        "    if n == 1000: print('some', flush=True); time.sleep(1.5)\n"
        "print('all', n)",
        InputDataConfig=[channel("train", data.as_uri(), InputMode="Pipe")],
    )
    first = server()
    platform.wait_for_line("some")
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(1.5)
    server()
    ended(platform)
    assert platform.describe()["TrainingJobStatus"] == "Completed", platform.describe()
    assert platform.lines()[-1] == "all 200000"


def test_what_runs_without_a_job_is_ended_at_the_start(platform: Platform, server: Server) -> None:
    platform.insert("print('up')\nwhile True: time.sleep(.1)")
    first = server()
    platform.wait_for_line("up")
    first.send_signal(signal.SIGKILL)
    first.wait()
    platform.store.delete("training-job", "job")
    assert platform.runner.find("kennel.job")
    server()
    assert not platform.runner.find("kennel.job")


def test_an_upload_that_was_cut_short_is_done_again(platform: Platform, server: Server) -> None:
    platform.insert("(base / 'model/w').write_text('whole')")
    server_process = server()
    ended(platform)
    server_process.kill()
    server_process.wait()
    shutil.rmtree(platform.output_dir())
    base = platform.home.job_dir("job") / "hosts/algo-1/ml"
    shutil.rmtree(base, ignore_errors=True)
    (base / "model").mkdir(parents=True)
    (base / "output/data").mkdir(parents=True)
    (base / "model/w").write_text("again")

    def back(document: dict[str, object]) -> None:
        document |= {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Uploading"}

    platform.store.update("training-job", "job", back)
    server()
    ended(platform)
    assert platform.members() == {"w": "again"}


def test_what_an_end_left_that_was_cut_short_is_removed(platform: Platform) -> None:
    platform.complete("")
    left = platform.home.job_dir("job") / "hosts/algo-1"
    left.mkdir(parents=True)
    again = platform.new_jobs()
    again.recover()
    again.close()
    assert not left.exists()


def test_a_clean_end_of_the_server_leaves_jobs_running(platform: Platform) -> None:
    platform.start("print('up')\ntime.sleep(2); (base / 'model/w').write_text('whole')")
    platform.wait_for_line("up")
    platform.jobs.close()
    assert platform.describe()["TrainingJobStatus"] == "InProgress"
    platform.jobs = platform.new_jobs()
    platform.jobs.recover()
    platform.jobs.wait("job", 30)
    assert platform.describe()["TrainingJobStatus"] == "Completed"
    assert platform.members() == {"w": "whole"}
