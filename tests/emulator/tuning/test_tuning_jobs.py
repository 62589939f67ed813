"""Tuning jobs through the API, on processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.emulator_harness import REGION, Emulator, wait_for
from tests.emulator.tuning.tuning_harness import continuous, definition, ended, request, run, trials

CHOICES = {"Name": "choice", "Values": ["a", "b", "c"]}


def numbers(job: dict[str, Any], counters: str) -> dict[str, int]:
    """The counters that are not zero."""
    return {name: count for name, count in job[counters].items() if count}


def test_trials_are_training_jobs_that_know_their_tuning_job(emulator: Emulator, tmp_path: Path) -> None:
    tags = [{"Key": "team", "Value": "a"}]
    one = definition(tmp_path, {"epochs": "3"}, Environment={"FLAVOUR": "sweet"})
    job = run(emulator, "random", tmp_path, TrainingJobDefinition=one, Tags=tags)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert numbers(job, "TrainingJobStatusCounters") == {"Completed": 4}
    assert numbers(job, "ObjectiveStatusCounters") == {"Succeeded": 4}
    assert job["ConsumedResources"]["RuntimeInSeconds"] >= 0
    found = trials(emulator, "random")
    values = [trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for trial in found]
    assert job["BestTrainingJob"]["TrainingJobName"] == found[values.index(max(values))]["TrainingJobName"]
    assert len({trial["TunedHyperParameters"]["x"] for trial in found}) == 4
    client = emulator.client("sagemaker")
    for number, trial in enumerate(found, start=1):
        training = client.describe_training_job(TrainingJobName=trial["TrainingJobName"])
        assert trial["TrainingJobName"].startswith(f"random-{number:03}-")
        assert trial["TuningJobName"] == "random"
        assert training["TuningJobArn"] == job["HyperParameterTuningJobArn"]
        assert training["HyperParameters"] == {
            "epochs": "3", "x": trial["TunedHyperParameters"]["x"], "_tuning_objective_metric": "score"
        }  # fmt: skip
        assert training["Environment"] == {"FLAVOUR": "sweet"}
        assert training["ModelArtifacts"]["S3ModelArtifacts"].endswith(
            f"{trial['TrainingJobName']}/output/model.tar.gz"
        )
        assert client.list_tags(ResourceArn=trial["TrainingJobArn"])["Tags"] == tags
        x = float(trial["TunedHyperParameters"]["x"])
        assert trial["FinalHyperParameterTuningJobObjectiveMetric"] == {
            "Type": "Maximize", "MetricName": "score", "Value": pytest.approx(-abs(x - 3) - 1 / 3, abs=1e-5)
        }  # fmt: skip


@pytest.mark.slow
def test_no_more_trials_run_at_once_than_allowed(emulator: Emulator, tmp_path: Path) -> None:
    one = definition(tmp_path, {"sleep_s": "0.5"})
    job = run(emulator, "parallel", tmp_path, jobs=5, parallel=2, TrainingJobDefinition=one)
    assert numbers(job, "TrainingJobStatusCounters") == {"Completed": 5}
    times = [(trial["CreationTime"], trial["TrainingEndTime"]) for trial in trials(emulator, "parallel")]
    at_once = [sum(start <= moment < end for start, end in times) for moment, _ in times]
    assert max(at_once) == 2


def test_a_grid_tries_every_combination_once(emulator: Emulator, tmp_path: Path) -> None:
    ranges = {"CategoricalParameterRanges": [CHOICES, {"Name": "n", "Values": ["3", "4"]}]}
    limits = {"MaxParallelTrainingJobs": 3}
    job = run(emulator, "grid", tmp_path, Strategy="Grid", ParameterRanges=ranges, ResourceLimits=limits)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    tried = [tuple(sorted(trial["TunedHyperParameters"].items())) for trial in trials(emulator, "grid")]
    assert sorted(tried) == [(("choice", c), ("n", n)) for c in "abc" for n in "34"]
    assert job["BestTrainingJob"]["TunedHyperParameters"] == {"choice": "b", "n": "4"}


@pytest.mark.slow
def test_a_bayesian_search_comes_closer_than_its_first_trials(emulator: Emulator, tmp_path: Path) -> None:
    job = run(emulator, "bayesian", tmp_path, jobs=14, parallel=2, Strategy="Bayesian")
    distances = [abs(float(trial["TunedHyperParameters"]["x"]) - 3) for trial in trials(emulator, "bayesian")]
    assert min(distances[4:]) < min(distances[:4])
    assert abs(float(job["BestTrainingJob"]["TunedHyperParameters"]["x"]) - 3) < 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_suggestions(emulator: Emulator, tmp_path: Path) -> None:
    seen = []
    for name, seed in (("seed-a", 5), ("seed-b", 5), ("seed-c", 6)):
        run(emulator, name, tmp_path, jobs=6, parallel=1, Strategy="Bayesian", RandomSeed=seed)
        seen.append([trial["TunedHyperParameters"] for trial in trials(emulator, name)])
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


@pytest.fixture(scope="module")
def failing(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job of which some trials fail."""
    folder = tmp_path_factory.mktemp("failing")
    one = definition(folder, {"fail_above": "2"})
    return run(emulator, "failing", folder, jobs=6, parallel=2, TrainingJobDefinition=one)


def test_a_failed_trial_counts_and_does_not_end_the_job(emulator: Emulator, failing: dict[str, Any]) -> None:
    job = failing
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    failed = [trial for trial in trials(emulator, "failing") if float(trial["TunedHyperParameters"]["x"]) > 2]
    assert 0 < len(failed) < 6
    assert numbers(job, "TrainingJobStatusCounters") == {
        "Completed": 6 - len(failed), "NonRetryableError": len(failed)
    }  # fmt: skip
    assert numbers(job, "ObjectiveStatusCounters") == {"Succeeded": 6 - len(failed), "Failed": len(failed)}
    assert failed[0]["FailureReason"] == "AlgorithmError: too large, exit code: 1"
    assert failed[0]["ObjectiveStatus"] == "Failed"


def test_a_job_of_which_the_first_five_trials_fail_is_given_up(emulator: Emulator, tmp_path: Path) -> None:
    one = definition(tmp_path, {"fail_above": "-100"})
    job = run(emulator, "hopeless", tmp_path, jobs=20, parallel=1, TrainingJobDefinition=one)
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("No training job succeeded after 5 attempts.")
    assert len(trials(emulator, "hopeless")) == 5
    assert "BestTrainingJob" not in job


def test_a_fault_of_the_engine_fails_the_job_and_ends_its_trials(emulator: Emulator, tmp_path: Path) -> None:
    """A damaged file of metrics is one that can be made from outside."""
    client = emulator.client("sagemaker")
    one = definition(tmp_path, {"sleep_s": "60"})
    asked = request("fault", tmp_path, TrainingJobDefinition=one, TrainingJobEarlyStoppingType="Auto")
    client.create_hyper_parameter_tuning_job(**asked)
    wait_for(
        lambda: len([t for t in trials(emulator, "fault") if t.get("FinalHyperParameterTuningJobObjectiveMetric")]) == 2
    )
    names = [trial["TrainingJobName"] for trial in trials(emulator, "fault")]
    (emulator.home / "jobs" / names[0] / "metrics.jsonl").write_text("{damaged\n")
    client.stop_training_job(TrainingJobName=names[1])  # so that the engine looks again
    job = ended(emulator, "fault")
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: JSONDecodeError: ")
    for name in names:
        status = "TrainingJobStatus"
        wait_for(lambda: client.describe_training_job(TrainingJobName=name)[status] == "Stopped")  # noqa: B023
    client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="fault")
    assert run(emulator, "fault", tmp_path, jobs=1, parallel=1)["HyperParameterTuningJobStatus"] == "Completed", (
        "the name is free"
    )


def test_a_stopped_job_stops_its_trials_and_keeps_what_they_found(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    one = definition(tmp_path, {"sleep_s": "60"})
    client.create_hyper_parameter_tuning_job(**request("stopped", tmp_path, TrainingJobDefinition=one))
    wait_for(
        lambda: (
            len([t for t in trials(emulator, "stopped") if t.get("FinalHyperParameterTuningJobObjectiveMetric")]) == 2
        )
    )
    with pytest.raises(ClientError, match="ResourceInUse"):
        client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")
    client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")
    job = ended(emulator, "stopped")
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert numbers(job, "TrainingJobStatusCounters") == {"Stopped": 2}
    assert "BestTrainingJob" in job
    with pytest.raises(ClientError, match="is in status Stopped"):
        client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")
    client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")
    for ask in (client.describe_hyper_parameter_tuning_job, client.stop_hyper_parameter_tuning_job):
        with pytest.raises(ClientError, match="ResourceNotFound"):
            ask(HyperParameterTuningJobName="stopped")
    name = job["BestTrainingJob"]["TrainingJobName"]
    assert client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Stopped"


def test_the_target_value_ends_the_job(emulator: Emulator, tmp_path: Path) -> None:
    criteria = {"TargetObjectiveMetricValue": -8.0}
    job = run(emulator, "target", tmp_path, jobs=30, parallel=1, TuningJobCompletionCriteria=criteria)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    values = [trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for trial in trials(emulator, "target")]
    assert [value >= -8 for value in values] == [False] * (len(values) - 1) + [True]


def test_a_job_that_does_not_improve_ends(emulator: Emulator, tmp_path: Path) -> None:
    criteria = {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}
    job = run(emulator, "stale", tmp_path, jobs=60, parallel=1, TuningJobCompletionCriteria=criteria)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] == 3
    assert len(trials(emulator, "stale")) < 60


@pytest.mark.slow
def test_a_job_that_has_converged_ends(emulator: Emulator, tmp_path: Path) -> None:
    """All values lie within one per cent, so nothing improves on the first trial."""
    narrow = {"ContinuousParameterRanges": [continuous(low="3", high="3.005")]}
    criteria = {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}
    asked = {"ParameterRanges": narrow, "TuningJobCompletionCriteria": criteria}
    job = run(emulator, "converged", tmp_path, jobs=30, parallel=1, **asked)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert "ConvergenceDetectedTime" in job["TuningJobCompletionDetails"]
    assert len(trials(emulator, "converged")) == 11


def test_early_stopping_ends_a_trial_that_is_worse_than_the_median(emulator: Emulator, tmp_path: Path) -> None:
    """A grid's order is a matter of its seed; with this one the two bad ones come last."""
    ranges = {"CategoricalParameterRanges": [{"Name": "x", "Values": ["3", "3.1", "3.2", "900", "901"]}]}
    one = definition(tmp_path, {"epochs": "3", "linger_above": "100"})
    job = run(
        emulator, "median", tmp_path, Strategy="Grid", ParameterRanges=ranges, TrainingJobDefinition=one,
        ResourceLimits={"MaxParallelTrainingJobs": 3}, TrainingJobEarlyStoppingType="Auto", RandomSeed=0,
    )  # fmt: skip
    found = trials(emulator, "median")
    assert [trial["TunedHyperParameters"]["x"] for trial in found][3:] == ["900", "901"]
    assert [trial["TrainingJobStatus"] for trial in found] == ["Completed"] * 3 + ["Stopped"] * 2
    assert numbers(job, "ObjectiveStatusCounters") == {"Succeeded": 5}
    assert float(job["BestTrainingJob"]["TunedHyperParameters"]["x"]) == 3


def test_hyperband_stops_trials_before_their_last_epoch(emulator: Emulator, tmp_path: Path) -> None:
    one = definition(tmp_path, {"epochs": "9", "epoch_s": "0.3"})
    job = run(emulator, "hyperband", tmp_path, jobs=6, parallel=3, Strategy="Hyperband", TrainingJobDefinition=one)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    counters = numbers(job, "TrainingJobStatusCounters")
    assert counters["Stopped"] >= 1, counters
    assert numbers(job, "ObjectiveStatusCounters") == {"Succeeded": 6}
    best = job["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == max(
        trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for trial in trials(emulator, "hyperband")
    )


@pytest.mark.slow
def test_the_runtime_ends_the_job(emulator: Emulator, tmp_path: Path) -> None:
    """The shortest runtime is two minutes, so the clock of the job is turned back instead."""
    client = emulator.client("sagemaker")
    limits = {"MaxParallelTrainingJobs": 1, "MaxRuntimeInSeconds": 120}
    one = definition(tmp_path, {"sleep_s": "60"})
    asked = request("runtime", tmp_path, ResourceLimits=limits, TrainingJobDefinition=one)
    client.create_hyper_parameter_tuning_job(**asked)
    wait_for(lambda: any("FinalHyperParameterTuningJobObjectiveMetric" in t for t in trials(emulator, "runtime")))
    from kennel.emulator.state.store import Store

    Store(emulator.home / "state.sqlite").update(
        "hyper-parameter-tuning-job", "runtime", lambda d: d.update(CreationTime=time.time() - 200)
    )
    [trial] = trials(emulator, "runtime")
    client.stop_training_job(TrainingJobName=trial["TrainingJobName"])  # a change, at which the job looks at its clock
    job = ended(emulator, "runtime")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert numbers(job, "TrainingJobStatusCounters") == {"Stopped": 1}


def test_several_definitions_have_ranges_and_trials_of_their_own(emulator: Emulator, tmp_path: Path) -> None:
    objective = {"Type": "Maximize", "MetricName": "score"}
    ranges = {
        "low": {"ContinuousParameterRanges": [continuous(high="0")]},
        "whole": {"IntegerParameterRanges": [{"Name": "n", "MinValue": "1", "MaxValue": "9"}]},
    }
    both = [
        definition(tmp_path, DefinitionName=name, TuningObjective=objective, HyperParameterRanges=one)
        for name, one in ranges.items()
    ]
    job = run(
        emulator, "several", tmp_path, jobs=6, parallel=3, TrainingJobDefinition=None, TrainingJobDefinitions=both,
        ParameterRanges=None, HyperParameterTuningJobObjective=None,
    )  # fmt: skip
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    by_name: dict[str, list[dict[str, str]]] = {}
    for trial in trials(emulator, "several"):
        by_name.setdefault(trial["TrainingJobDefinitionName"], []).append(trial["TunedHyperParameters"])
    assert [float(tuned["x"]) <= 0 for tuned in by_name["low"]] == [True] * 3
    assert sorted(len({int(tuned["n"]) for tuned in found}) for found in [by_name["whole"]]) == [3]


def test_each_trial_has_a_checkpoint_folder_of_its_own(emulator: Emulator, tmp_path: Path) -> None:
    checkpoints = {"S3Uri": (tmp_path / "checkpoints").as_uri()}
    one = definition(tmp_path, {"checkpoint": "1"}, CheckpointConfig=checkpoints)
    run(emulator, "saving", tmp_path, jobs=2, TrainingJobDefinition=one)
    names = sorted(trial["TrainingJobName"] for trial in trials(emulator, "saving"))
    assert {path.parent.name: path.read_text() for path in (tmp_path / "checkpoints").rglob("own")} == dict(
        zip(names, names, strict=True)
    )


def test_a_spot_trial_that_is_taken_away_goes_on_from_its_checkpoint(emulator: Emulator, tmp_path: Path) -> None:
    given = {
        "CheckpointConfig": {"S3Uri": (tmp_path / "checkpoints").as_uri()},
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
        "RetryStrategy": {"MaximumRetryAttempts": 2},
    }
    one = definition(tmp_path, {"resume": "yes"}, **given)
    client = emulator.client("sagemaker")
    asked = request("spot", tmp_path, jobs=1, parallel=1, TrainingJobDefinition=one)
    client.create_hyper_parameter_tuning_job(**asked)
    [saved] = wait_for(lambda: list((tmp_path / "checkpoints").glob("*/saved")))
    trial = saved.parent.name
    command = [sys.executable, "-m", "kennel.emulator", "interrupt", trial, "--home", str(emulator.home)]
    subprocess.run(command, check=True, timeout=60)
    job = ended(emulator, "spot")
    assert numbers(job, "TrainingJobStatusCounters") == {"Completed": 1}
    assert job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0  # 1 - 1/epoch: resumed
    training = client.describe_training_job(TrainingJobName=trial)
    assert "Interrupted" in [one["Status"] for one in training["SecondaryStatusTransitions"]]
    assert training["EnableManagedSpotTraining"] is True
    assert training["RetryStrategy"] == {"MaximumRetryAttempts": 2}


def test_trials_are_listed_by_objective_status_and_page(emulator: Emulator, failing: dict[str, Any]) -> None:
    assert failing["HyperParameterTuningJobStatus"] == "Completed"
    whole = trials(emulator, "failing")
    assert [t["TrainingJobName"] for t in trials(emulator, "failing", PaginationConfig={"PageSize": 2})] == [
        t["TrainingJobName"] for t in whole
    ]
    completed = trials(emulator, "failing", StatusEquals="Completed")
    assert 0 < len(completed) < 6
    best_first = trials(emulator, "failing", SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    values = [t["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for t in best_first]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(completed), "those without an objective are not listed"
    for key in ("Name", "CreationTime", "Status"):
        assert len(trials(emulator, "failing", SortBy=key, PaginationConfig={"PageSize": 4})) == 6
    client = emulator.client("sagemaker")
    page = client.list_hyper_parameter_tuning_jobs(NameContains="failing", StatusEquals="Completed")
    [summary] = page["HyperParameterTuningJobSummaries"]
    assert summary["HyperParameterTuningJobArn"] == (
        f"arn:aws:sagemaker:{REGION}:000000000000:hyper-parameter-tuning-job/failing"
    )
    assert (summary["Strategy"], summary["ResourceLimits"]["MaxNumberOfTrainingJobs"]) == ("Random", 6)
    assert summary["TrainingJobStatusCounters"]["Completed"] == len(completed)


@pytest.mark.slow
def test_a_warm_start_goes_on_from_its_parents(emulator: Emulator, tmp_path: Path) -> None:
    parent = run(emulator, "parent", tmp_path, jobs=8, parallel=4)
    start = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent"}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }
    child = run(emulator, "child", tmp_path, jobs=1, parallel=1, Strategy="Bayesian", WarmStartConfig=start)
    best = max((parent["BestTrainingJob"], child["BestTrainingJob"]), key=value)
    assert child["OverallBestTrainingJob"]["TrainingJobName"] == best["TrainingJobName"]
    cold = run(emulator, "cold", tmp_path, jobs=1, parallel=1, Strategy="Bayesian")
    assert child["BestTrainingJob"]["TunedHyperParameters"] != cold["BestTrainingJob"]["TunedHyperParameters"]
    transfer = {**start, "WarmStartType": "TransferLearning"}
    other = run(emulator, "transfer", tmp_path, jobs=1, parallel=1, Strategy="Bayesian", WarmStartConfig=transfer)
    assert "OverallBestTrainingJob" not in other
    assert other["WarmStartConfig"] == transfer


def value(trial: dict[str, Any]) -> float:
    return float(trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])


def test_autotune_makes_ranges_and_limits_of_hints(emulator: Emulator, tmp_path: Path) -> None:
    ranges = {
        "AutoParameters": [
            {"Name": "x", "ValueHint": "2.5"}, {"Name": "n", "ValueHint": "4"}, {"Name": "note", "ValueHint": "kept"}
        ]
    }  # fmt: skip
    client = emulator.client("sagemaker")
    limits = {"MaxParallelTrainingJobs": 2}
    asked = request(
        "auto", tmp_path, ParameterRanges=ranges, Autotune={"Mode": "Enabled"}, ResourceLimits=limits,
        TuningJobCompletionCriteria={"TargetObjectiveMetricValue": -1000.0},
    )  # fmt: skip
    client.create_hyper_parameter_tuning_job(**asked)
    job = ended(emulator, "auto")
    config = job["HyperParameterTuningJobConfig"]
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 20, **limits}
    assert config["TrainingJobEarlyStoppingType"] == "Auto"
    for trial in trials(emulator, "auto"):
        tuned = trial["TunedHyperParameters"]
        assert 0.25 <= float(tuned["x"]) <= 25
        assert 1 <= int(tuned["n"]) <= 40
        training = client.describe_training_job(TrainingJobName=trial["TrainingJobName"])
        assert training["HyperParameters"]["note"] == "kept"
