"""kill -9 of the server in the middle of a tuning job: the next one finds the running trials, and repeats nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import TRAINING_LOGS
from kennel.emulator.tuning import searcher
from tests.emulator.emulator_harness import Emulator, running, wait_for
from tests.emulator.tuning.tuning_harness import definition, ended, request, trials, write_images


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    write_images(folder)
    return folder


def starts(home: Path, trial: str) -> int:
    """How often a trial's program was started: each start has a log stream of its own."""
    return len(Home(home).logs.streams(TRAINING_LOGS, f"{trial}/"))


def has_started(emulator: Emulator, trial: str) -> bool:
    status = emulator.client("sagemaker").describe_training_job(TrainingJobName=trial)["SecondaryStatus"]
    return status not in ("Starting", "Pending", "Downloading")


def finished(emulator: Emulator, name: str) -> int:
    return len(trials(emulator, name, StatusEquals="Completed"))


def test_a_killed_server_goes_on_with_the_same_trials(home: Path, tmp_path: Path) -> None:
    one = definition(tmp_path, {"sleep_s": "1.5"})
    asked = request("crash", tmp_path, jobs=6, parallel=2, TrainingJobDefinition=one)
    with running(home) as server:
        server.client("sagemaker").create_hyper_parameter_tuning_job(**asked)
        wait_for(lambda: finished(server, "crash") >= 2)
        wait_for(lambda: len(trials(server, "crash", StatusEquals="InProgress")) == 2)
        before = trials(server, "crash")
        # A start that the kill cuts short is made again, with a log stream of its own.
        wait_for(lambda: all(has_started(server, trial["TrainingJobName"]) for trial in before))
        server.stop(signal.SIGKILL)
    with running(home) as server:
        job = ended(server, "crash")
        after = trials(server, "crash")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["Completed"] == 6
    kept = {trial["TrainingJobName"]: trial["TunedHyperParameters"] for trial in after}
    assert len(kept) == 6
    for trial in before:
        assert kept[trial["TrainingJobName"]] == trial["TunedHyperParameters"]
    assert [starts(home, name) for name in kept] == [1] * 6


@pytest.mark.slow
def test_the_suggestions_are_those_of_a_server_that_was_not_killed(home: Path, tmp_path: Path) -> None:
    one = definition(tmp_path, {"sleep_s": "0.3"})
    options = {"jobs": 8, "parallel": 1, "Strategy": "Bayesian", "TrainingJobDefinition": one}
    with running(home) as server:
        client = server.client("sagemaker")
        client.create_hyper_parameter_tuning_job(**request("whole", tmp_path, **options))
        ended(server, "whole")
        client.create_hyper_parameter_tuning_job(**request("killed", tmp_path, **options))
        wait_for(lambda: finished(server, "killed") >= 5)
        server.stop(signal.SIGKILL)
    with running(home) as server:
        ended(server, "killed")
        suggested = [[trial["TunedHyperParameters"] for trial in trials(server, n)] for n in ("whole", "killed")]
    assert suggested[0] == suggested[1]


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2])
def test_a_kill_at_any_moment_leaves_a_job_that_ends_once(home: Path, tmp_path: Path, delay_s: float) -> None:
    one = definition(tmp_path, {"sleep_s": "0.2"})
    asked = request("any", tmp_path, jobs=5, parallel=2, TrainingJobDefinition=one)
    with running(home) as server:
        server.client("sagemaker").create_hyper_parameter_tuning_job(**asked)
        time.sleep(delay_s)
        server.stop(signal.SIGKILL)
    with running(home) as server:
        job = ended(server, "any")
        names = [trial["TrainingJobName"] for trial in trials(server, "any")]
        found = server.client("sagemaker").list_training_jobs(MaxResults=100)["TrainingJobSummaries"]
    assert job["TrainingJobStatusCounters"]["Completed"] == 5
    assert sorted(one["TrainingJobName"] for one in found) == sorted(names)


def test_a_stop_that_was_asked_for_before_the_kill_is_carried_out(home: Path, tmp_path: Path) -> None:
    one = definition(tmp_path, {"sleep_s": "60"})
    asked = request("stopping", tmp_path, TrainingJobDefinition=one)
    with running(home) as server:
        client = server.client("sagemaker")
        client.create_hyper_parameter_tuning_job(**asked)
        wait_for(lambda: len(trials(server, "stopping")) == 2)
        client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopping")
        server.stop(signal.SIGKILL)
    with running(home) as server:
        job = ended(server, "stopping")
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert job["TrainingJobStatusCounters"]["InProgress"] == 0


def test_the_search_is_started_again_when_it_was_killed(home: Path, tmp_path: Path) -> None:
    one = definition(tmp_path, {"sleep_s": "0.3"})
    asked = request("orphan", tmp_path, jobs=4, parallel=1, TrainingJobDefinition=one)
    with running(home) as server:
        server.client("sagemaker").create_hyper_parameter_tuning_job(**asked)
        wait_for(lambda: finished(server, "orphan") >= 1)
        [search] = searches(server.process.pid)
        os.kill(int(search.name), signal.SIGKILL)
        job = ended(server, "orphan")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["Completed"] == 4


def searches(server_pid: int) -> list[Path]:
    """The search programs of a server."""
    children = Path(f"/proc/{server_pid}/task")
    pids = {pid for task in children.iterdir() for pid in (task / "children").read_text().split()}
    return [Path("/proc") / p for p in pids if searcher.__name__.encode() in Path(f"/proc/{p}/cmdline").read_bytes()]
