"""A tuning job whose trials are containers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.emulator_harness import Emulator, running
from tests.emulator.tuning.tuning_harness import IMAGE, PROGRAM, definition, run, trials
from tests.images import docker

pytestmark = pytest.mark.docker


@pytest.fixture
def server(base_image: str, tmp_path: Path) -> Iterator[Emulator]:
    lines = [f"FROM {base_image}", f"ENTRYPOINT {json.dumps(['python3.11', '-u', '-c', PROGRAM])}"]
    docker("build", "--quiet", "--tag", IMAGE, "-", input="\n".join(lines))
    with running(tmp_path / "home", "--runner", "docker") as emulator:
        yield emulator


def test_trials_are_containers_that_are_gone_afterwards(server: Emulator, tmp_path: Path) -> None:
    one = definition(tmp_path, {"fail_above": "8"})
    job = run(server, "docker", tmp_path, jobs=6, parallel=2, Strategy="Bayesian", TrainingJobDefinition=one)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    found = trials(server, "docker")
    assert len(found) == 6
    values = [trial.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value") for trial in found]
    assert job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == max(filter(None, values))
    mine = f"label=kennel.home={server.home}"  # others may run containers, too
    assert docker("ps", "--all", "--quiet", "--filter", mine, "--filter", "label=kennel.job").stdout == ""


def test_hyperband_stops_containers(server: Emulator, tmp_path: Path) -> None:
    one = definition(tmp_path, {"epochs": "9", "epoch_s": "0.7"})
    job = run(server, "hyperband", tmp_path, jobs=4, parallel=2, Strategy="Hyperband", TrainingJobDefinition=one)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["Stopped"] >= 1
    assert job["ObjectiveStatusCounters"]["Succeeded"] == 4


def test_containers_have_a_folder_in_common(server: Emulator, tmp_path: Path) -> None:
    one = definition(tmp_path, {"share": "yes", "epochs": "1"})
    run(server, "shared", tmp_path, jobs=2, parallel=1, TrainingJobDefinition=one)
    found = trials(server, "shared")
    assert [round(one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]) + 1 for one in found] == [0, 1]
