"""CreateHyperParameterTuningJob: a plain dictionary of the SageMaker API, made from values. Nothing is sent from here.

Source: the API reference; botocore's service model is what tests hold every request against.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from kennel.contract.errors import ConfigError
from kennel.contract.metrics import METRICS
from kennel.driver.requests.space import CATEGORICAL, CONTINUOUS, INTEGER, Parameter, combinations
from kennel.driver.requests.training import Request, Training, create_training_job, pairs

STRATEGIES = ("Bayesian", "Random", "Hyperband", "Grid")
_NOT_OF_A_DEFINITION = ("TrainingJobName", "HyperParameters", "Tags")  # they differ, or belong to the whole
_LEAST_RUNTIME_S = 120  # ResourceLimits.MaxRuntimeInSeconds


@dataclass(frozen=True)
class Objective:
    """The metric that decides, and what is better."""

    metric: str
    maximize: bool

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one > other if self.maximize else one < other


@dataclass(frozen=True)
class Completion:
    """When a tuning job has done enough before all of its trials; what is 0 or False does not count."""

    target: float = 0.0  # the objective
    jobs_not_improving: int = 0
    on_convergence: bool = False


@dataclass(frozen=True)
class Tuning:
    """A tuning job."""

    name: str
    training: Training  # what all trials have in common; its name is nobody's
    space: tuple[Parameter, ...]
    objective: Objective
    strategy: str = "Bayesian"
    max_jobs: int = 20
    parallel: int = 2
    max_runtime_s: int = 0  # of the whole; 0: no limit
    early_stopping: bool = False
    seed: int | None = None
    epochs: tuple[int, int] = (1, 10)  # of Hyperband: the least and the most of a trial
    completion: Completion = Completion()
    parents: tuple[str, ...] = ()  # tuning jobs whose trials are known already
    transfer: bool = False  # their data or image may differ
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """Trials at most."""
        return combinations(self.space) if self.strategy == "Grid" else self.max_jobs


def objective_by_name(name: str) -> Objective:
    """`validation:accuracy` (or with an underscore) as the metric that the trainer prints.

    Raises:
        ConfigError: there is none of this name, or it is of the test images.
    """
    metric = name.strip().replace(":", "_")
    allowed = [one for one in METRICS if not one.startswith("test_")]
    if metric.startswith("test_") and metric in METRICS:
        raise ConfigError(
            [f"The objective is '{name}'; hyperparameters chosen by the test images make these no test any more. Use "
             f"{metric.replace('test_', 'validation:')}."]
        )  # fmt: skip
    if metric not in allowed:
        close = difflib.get_close_matches(metric, allowed, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Use one of {', '.join(allowed)}."
        raise ConfigError([f"The objective is '{name}', which training does not print. {hint}"])
    return Objective(metric, maximize=not metric.endswith("_loss"))


def check(tuning: Tuning) -> None:
    """Refuse what SageMaker's strategies cannot do, before anything is uploaded.

    Raises:
        ConfigError: with all problems.
    """
    problems = []
    if not tuning.space:
        problems.append(
            "Nothing is to be tuned. Give --tune lr=log:1e-5..1e-1, or a table [tune.space] in kennel.toml."
        )
    if tuning.strategy == "Grid" and any(one.kind != CATEGORICAL for one in tuning.space):
        names = ", ".join(one.name for one in tuning.space if one.kind != CATEGORICAL)
        problems.append(f"A grid takes lists only; write the values of {names} one by one.")
    if tuning.strategy == "Hyperband" and tuning.early_stopping:
        problems.append("Hyperband has no early stopping beside its own. Leave it away.")
    if tuning.strategy == "Hyperband" and not 1 <= tuning.epochs[0] <= tuning.epochs[1]:
        problems.append(
            f"Hyperband from {tuning.epochs[0]} to {tuning.epochs[1]} epochs: give a larger number of epochs."
        )
    if tuning.max_runtime_s and tuning.max_runtime_s < _LEAST_RUNTIME_S:
        problems.append(
            f"The whole may take {tuning.max_runtime_s} s; SageMaker's least limit is {_LEAST_RUNTIME_S} s."
        )
    if len(tuning.parents) > 5:
        problems.append(f"{len(tuning.parents)} parents; SageMaker takes 5.")
    if tuning.transfer and not tuning.parents:
        problems.append("--transfer needs a parent. Give --warm-start JOB.")
    if problems:
        raise ConfigError(problems)


def create_tuning_job(tuning: Tuning) -> Request:
    """CreateHyperParameterTuningJob."""
    request: Request = {
        "HyperParameterTuningJobName": tuning.name,
        "HyperParameterTuningJobConfig": _config(tuning),
        "TrainingJobDefinition": _definition(tuning),
    }
    if tuning.parents:
        request["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": parent} for parent in tuning.parents],
            "WarmStartType": "TransferLearning" if tuning.transfer else "IdenticalDataAndAlgorithm",
        }
    if tuning.tags:
        request["Tags"] = pairs(tuning.tags)
    return request


def _config(tuning: Tuning) -> Request:
    config: Request = {
        "Strategy": tuning.strategy,
        "HyperParameterTuningJobObjective": {
            "Type": "Maximize" if tuning.objective.maximize else "Minimize",
            "MetricName": tuning.objective.metric,
        },
        "ResourceLimits": _limits(tuning),
        "ParameterRanges": _ranges(tuning.space),
        "TrainingJobEarlyStoppingType": "Auto" if tuning.early_stopping else "Off",
    }
    if tuning.strategy == "Hyperband":
        low, high = tuning.epochs
        config["StrategyConfig"] = {"HyperbandStrategyConfig": {"MinResource": low, "MaxResource": high}}
    if tuning.seed is not None:
        config["RandomSeed"] = tuning.seed
    criteria = _criteria(tuning.completion)
    return {**config, **({"TuningJobCompletionCriteria": criteria} if criteria else {})}


def _limits(tuning: Tuning) -> Request:
    limits: Request = {"MaxParallelTrainingJobs": tuning.parallel}
    if tuning.strategy != "Grid":  # SageMaker counts a grid's combinations itself
        limits["MaxNumberOfTrainingJobs"] = tuning.max_jobs
    if tuning.max_runtime_s:
        limits["MaxRuntimeInSeconds"] = tuning.max_runtime_s
    return limits


def _criteria(completion: Completion) -> Request:
    criteria: Request = {}
    if completion.target:
        criteria["TargetObjectiveMetricValue"] = completion.target
    if completion.jobs_not_improving:
        criteria["BestObjectiveNotImproving"] = {"MaxNumberOfTrainingJobsNotImproving": completion.jobs_not_improving}
    if completion.on_convergence:
        criteria["ConvergenceDetected"] = {"CompleteOnConvergence": "Enabled"}
    return criteria


def _ranges(space: tuple[Parameter, ...]) -> Request:
    members = {
        "ContinuousParameterRanges": [_range(one) for one in space if one.kind == CONTINUOUS],
        "IntegerParameterRanges": [_range(one) for one in space if one.kind == INTEGER],
        "CategoricalParameterRanges": [
            {"Name": one.name, "Values": list(one.values)} for one in space if one.kind == CATEGORICAL
        ],
    }
    return {member: ranges for member, ranges in members.items() if ranges}


def _range(one: Parameter) -> Request:
    return {"Name": one.name, "MinValue": one.low, "MaxValue": one.high, "ScalingType": one.scaling}


def _definition(tuning: Tuning) -> Request:
    whole = create_training_job(tuning.training)
    definition = {member: value for member, value in whole.items() if member not in _NOT_OF_A_DEFINITION}
    definition["ResourceConfig"].pop("KeepAlivePeriodInSeconds", None)  # a trial's machine cannot be kept warm
    tuned = {one.name for one in tuning.space}
    static = {name: text for name, text in whole["HyperParameters"].items() if name not in tuned}
    return {**definition, "StaticHyperParameters": static}
