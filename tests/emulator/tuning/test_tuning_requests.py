"""What a tuning request says and SageMaker or the engine would not take is refused, all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.emulator_harness import Emulator
from tests.emulator.tuning.tuning_harness import continuous, definition, request, run

CATEGORICAL = {"Name": "choice", "Values": ["a", "b"]}


def refusal(emulator: Emulator, folder: Path, **changes: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        emulator.client("sagemaker").create_hyper_parameter_tuning_job(**request("refused", folder, **changes))
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def ranges(**members: Any) -> dict[str, Any]:
    return {"ParameterRanges": members}


CASES: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "two ranges": (
        lambda _: ranges(
            ContinuousParameterRanges=[continuous()], CategoricalParameterRanges=[{**CATEGORICAL, "Name": "x"}]
        ),
        "'x' has two ranges",
    ),
    "static and tuned": (lambda f: {"TrainingJobDefinition": definition(f, {"x": "1"})}, "both static and tuned"),
    "no range": (lambda _: {"ParameterRanges": None}, "There is no hyperparameter to tune"),
    "no number": (lambda _: ranges(ContinuousParameterRanges=[continuous(low="a")]), "MinValue 'a', which is no"),
    "no integer": (
        lambda _: ranges(IntegerParameterRanges=[continuous(low="1.5")]), "MinValue '1.5', which is no integer number"
    ),
    "infinite": (lambda _: ranges(ContinuousParameterRanges=[continuous(high="inf")]), "MaxValue 'inf'"),
    "upside down": (lambda _: ranges(ContinuousParameterRanges=[continuous(low="11")]), "MinValue 11 above"),
    "log of zero": (
        lambda _: ranges(ContinuousParameterRanges=[continuous(low="0", scale="Logarithmic")]), "greater than 0, not 0"
    ),
    "reverse log of one": (
        lambda _: ranges(ContinuousParameterRanges=[continuous(low="0", high="1", scale="ReverseLogarithmic")]),
        "needs a range within 0<=x<1, not 0 to 1",
    ),
    "reverse log of integers": (
        lambda _: ranges(IntegerParameterRanges=[continuous(low="0", high="0", scale="ReverseLogarithmic")]),
        "ReverseLogarithmic scaling is for continuous ranges",
    ),
    "a value twice": (
        lambda _: ranges(CategoricalParameterRanges=[{"Name": "c", "Values": ["a", "a"]}]), "has the value 'a' twice"
    ),
    "31 parameters": (
        lambda _: ranges(
            ContinuousParameterRanges=[continuous(f"x{n}") for n in range(16)],
            IntegerParameterRanges=[continuous(f"n{n}") for n in range(15)],
        ),
        "31 hyperparameters are tuned; 30 are allowed",
    ),
    "31 values": (
        lambda _: ranges(CategoricalParameterRanges=[{"Name": "c", "Values": [str(n) for n in range(31)]}]),
        "Member must have length less than or equal to 30",
    ),
    "unknown objective": (
        lambda _: {"HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "other"}},
        "[other], isn't valid for the algorithm. Choose one of MetricDefinitions: score",
    ),
    "no objective": (lambda _: {"HyperParameterTuningJobObjective": None}, "There is no objective"),
    "more parallel than all": (lambda _: {"jobs": 2, "parallel": 3}, "MaxParallelTrainingJobs (3) is above"),
    "no end": (lambda _: {"ResourceLimits": {"MaxParallelTrainingJobs": 1}}, "The job has no end"),
    "a month and a day": (
        lambda _: {"ResourceLimits": {"MaxParallelTrainingJobs": 1, "MaxRuntimeInSeconds": 31 * 86400}}, "30 days"
    ),
    "early stopping with Hyperband": (
        lambda f: {
            "Strategy": "Hyperband", "TrainingJobEarlyStoppingType": "Auto",
            "TrainingJobDefinition": definition(f, {"epochs": "9"}),
        },
        "TrainingJobEarlyStoppingType must be Off with Hyperband",
    ),
    "Hyperband without epochs": (lambda _: {"Strategy": "Hyperband"}, "cannot infer MaxResource"),
    "Hyperband upside down": (
        lambda _: {
            "Strategy": "Hyperband",
            "StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 9, "MaxResource": 3}},
        },
        "MinResource (9) is above MaxResource (3)",
    ),
    "a strategy's configuration without it": (
        lambda _: {"StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": 3}}}, "is for the strategy Hyperband"
    ),
    "a grid of numbers": (lambda _: {"Strategy": "Grid"}, "only: list the values of x"),
    "a grid of another size": (
        lambda _: {"Strategy": "Grid", "jobs": 3, **ranges(CategoricalParameterRanges=[CATEGORICAL])},
        "The grid has 2 combinations, MaxNumberOfTrainingJobs is 3",
    ),
    "auto parameters alone": (
        lambda _: ranges(AutoParameters=[{"Name": "x", "ValueHint": "1"}]), "AutoParameters need Autotune"
    ),
    "two kinds of resources": (
        lambda f: {"TrainingJobDefinition": definition(f, HyperParameterTuningResourceConfig={"InstanceCount": 1})},
        "either ResourceConfig or HyperParameterTuningResourceConfig",
    ),
    "no image": (
        lambda f: {"TrainingJobDefinition": definition(f, AlgorithmSpecification={
            "TrainingInputMode": "File", "MetricDefinitions": [{"Name": "score", "Regex": "(.)"}]})},
        "AlgorithmSpecification.TrainingImage must not be null",
    ),
    "a marketplace algorithm": (
        lambda f: {"TrainingJobDefinition": definition(f, AlgorithmSpecification={
            "TrainingInputMode": "File", "AlgorithmName": "a", "TrainingImage": "b",
            "MetricDefinitions": [{"Name": "score", "Regex": "(.)"}]})},
        "'TrainingJobDefinition.AlgorithmSpecification.AlgorithmName' is not emulated",
    ),
    "a regex without a group": (
        lambda f: {"TrainingJobDefinition": definition(f, AlgorithmSpecification={
            "TrainingInputMode": "File", "TrainingImage": "b",
            "MetricDefinitions": [{"Name": "score", "Regex": "score"}]})},
        "has no group",
    ),
    "spot without a wait": (
        lambda f: {"TrainingJobDefinition": definition(f, EnableManagedSpotTraining=True)},
        "EnableManagedSpotTraining needs StoppingCondition.MaxWaitTimeInSeconds",
    ),
    "a missing parent": (
        lambda _: {"WarmStartConfig": {
            "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "nobody"}],
            "WarmStartType": "TransferLearning"}},
        "Parent tuning job 'nobody' does not exist",
    ),
    "no definition": (lambda _: {"TrainingJobDefinition": None}, "either TrainingJobDefinition or"),
    "definitions without names": (
        lambda f: {"TrainingJobDefinition": None, "TrainingJobDefinitions": [definition(f)]},
        "needs a DefinitionName of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_what_to_do(emulator: Emulator, tmp_path: Path, case: str) -> None:
    changes, message = CASES[case]
    code, said = refusal(emulator, tmp_path, **changes(tmp_path))
    assert (code, message in said) == ("ValidationException", True), said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobs": 751}, "'Number of training jobs per hyperparameter tuning job' is 750"),
        ({"jobs": 200, "parallel": 101}, "'Number of parallel training jobs per hyperparameter tuning job' is 100"),
    ],
)
def test_quotas_are_a_limit_that_is_exceeded(
    emulator: Emulator, tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    code, said = refusal(emulator, tmp_path, **changes)
    assert (code, message in said) == ("ResourceLimitExceeded", True), said


def test_a_name_can_be_used_once(emulator: Emulator, tmp_path: Path) -> None:
    run(emulator, "refused", tmp_path, jobs=1, parallel=1)
    code, said = refusal(emulator, tmp_path)
    assert (code, "already exists" in said) == ("ResourceInUse", True), said


def test_what_a_child_changes_of_its_parent_has_limits(emulator: Emulator, tmp_path: Path) -> None:
    static = {f"s{number}": "1" for number in range(6)}
    run(emulator, "elder", tmp_path, jobs=1, parallel=1, TrainingJobDefinition=definition(tmp_path, static))
    start = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "elder"}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }
    image = definition(tmp_path, static)
    image["AlgorithmSpecification"] = {**image["AlgorithmSpecification"], "TrainingImage": "bowl:2"}
    changed = dict.fromkeys(static, "2")
    for one, message in (
        (definition(tmp_path, {"s0": "1"}), "must stay the same; it was 7, now 2"),
        (definition(tmp_path, changed), "there are 12 changes to static hyperparameters; 10 are allowed"),
        (image, "needs the same TrainingImage"),
    ):
        code, said = refusal(emulator, tmp_path, TrainingJobDefinition=one, WarmStartConfig=start)
        assert (code, message in said) == ("ValidationException", True), said
    integer = {"IntegerParameterRanges": [{"Name": "x", "MinValue": "1", "MaxValue": "2"}]}
    objective = {"Type": "Minimize", "MetricName": "score"}
    _, said = refusal(
        emulator, tmp_path, TrainingJobDefinition=definition(tmp_path, static), WarmStartConfig=start,
        ParameterRanges=integer, HyperParameterTuningJobObjective=objective,
    )  # fmt: skip
    assert "'x' was continuous and is integer" in said
    assert "the objective metric must be the same" in said


def test_instance_configurations_are_taken_in_their_order(emulator: Emulator, tmp_path: Path) -> None:
    flexible = {
        "AllocationStrategy": "Prioritized",
        "InstanceConfigs": [
            {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
            {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 20},
        ],
    }
    one = definition(tmp_path, HyperParameterTuningResourceConfig=flexible)
    del one["ResourceConfig"]
    job = run(emulator, "flexible", tmp_path, jobs=1, parallel=1, TrainingJobDefinition=one)
    training = emulator.client("sagemaker").describe_training_job(
        TrainingJobName=job["BestTrainingJob"]["TrainingJobName"]
    )
    assert training["ResourceConfig"] == {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10}
