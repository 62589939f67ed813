"""A tuning job's document while it lives: its trials, what is counted of them, the best one, and when it is enough.

The document holds the members of Describe and `_trials`: for each trial those of HyperParameterTrainingJobSummary, and
the engine's own with underscores. Sources: API reference, DescribeHyperParameterTuningJob, ObjectiveStatusCounters,
TrainingJobStatusCounters, TuningJobCompletionCriteria; developer guide, "Stop Training Jobs Early".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kennel.emulator.state.store import Document
from kennel.emulator.tuning.trials import definitions_of, objective_of, space_of

KIND = "hyper-parameter-tuning-job"
ENDED = ("Completed", "Failed", "Stopped")
TRIALS = "_trials"
FAILURES = 5  # after so many trials without one that succeeded, SageMaker gives up
_IMPROVEMENT = 0.01  # share of the best value that counts as an improvement
_MEDIAN_OF = 3  # earlier trials at least, for the median rule to say something
NO_SUCCESS = (
    "No training job succeeded after {count} attempts. For additional details, please take a look at the training job "
    "failures by listing training jobs for the hyperparameter tuning job."
)


def is_open(trial: Mapping[str, Any]) -> bool:
    """Whether a trial has not ended."""
    return trial["TrainingJobStatus"] not in ENDED


def value_of(trial: Mapping[str, Any]) -> float | None:
    """The objective of a trial that counts."""
    if trial["ObjectiveStatus"] != "Succeeded":
        return None
    return float(trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])


def maximizes(document: Mapping[str, Any]) -> bool:
    """Whether more is better; all definitions have the same type."""
    return bool(objective_of(document, definitions_of(document)[0])["Type"] == "Maximize")


def follow(document: Mapping[str, Any], trial: Document, job: Mapping[str, Any] | None) -> None:
    """Take over what has become of a trial's training job; None: it was deleted."""
    if job is None:
        trial.update(TrainingJobStatus="Failed", ObjectiveStatus="Failed", FailureReason="The training job is gone")
        return
    for member in ("TrainingJobStatus", "TrainingStartTime", "TrainingEndTime", "FailureReason"):
        if member in job:
            trial[member] = job[member]
    objective = objective_of(document, definitions_of(document)[trial["_definition"]])
    final = [one for one in job.get("FinalMetricDataList") or [] if one["MetricName"] == objective["MetricName"]]
    if final:
        trial["FinalHyperParameterTuningJobObjectiveMetric"] = {**objective, "Value": final[0]["Value"]}
    if is_open(trial):
        return
    succeeded = final and trial["TrainingJobStatus"] != "Failed"
    trial["ObjectiveStatus"] = "Succeeded" if succeeded else "Failed"


def best_of(trials: Iterable[Document], *, maximize: bool) -> Document | None:
    """The trial with the best objective; of equals, the first."""
    found = [(value, trial) for trial in trials if (value := value_of(trial)) is not None]
    if not found:
        return None
    choose = max if maximize else min
    return choose(found, key=lambda pair: pair[0])[1]


def refresh(document: Document, now: float) -> None:
    """Count the trials anew, and find the best."""
    trials = document[TRIALS]
    maximize = maximizes(document)
    statuses = [_counted(trial) for trial in trials]
    names = ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")
    document["TrainingJobStatusCounters"] = {name: statuses.count(name) for name in names}
    objectives = [trial["ObjectiveStatus"] for trial in trials]
    document["ObjectiveStatusCounters"] = {name: objectives.count(name) for name in ("Succeeded", "Pending", "Failed")}
    best = best_of(trials, maximize=maximize)
    if best:
        document["BestTrainingJob"] = best
    if (document.get("WarmStartConfig") or {}).get("WarmStartType") == "IdenticalDataAndAlgorithm":
        overall = best_of([*trials, *document["_parents"]], maximize=maximize)
        if overall:
            document["OverallBestTrainingJob"] = overall
    _note_progress(document, maximize, now)


def _counted(trial: Mapping[str, Any]) -> str:
    status = str(trial["TrainingJobStatus"])
    if status == "Failed":
        internal = str(trial.get("FailureReason", "")).startswith("InternalServerError")
        return "RetryableError" if internal else "NonRetryableError"
    return status if status in ENDED else "InProgress"


def _note_progress(document: Document, maximize: bool, now: float) -> None:
    stale = not_improving(document[TRIALS], maximize=maximize)
    details = document.setdefault("TuningJobCompletionDetails", {})
    details["NumberOfTrainingJobsObjectiveNotImproving"] = stale
    width = max(len(space_of(document, definition)) for definition in definitions_of(document))
    if stale >= max(10, 5 * width):
        details.setdefault("ConvergenceDetectedTime", now)


def not_improving(trials: Iterable[Document], *, maximize: bool) -> int:
    """How many trials, by the time of their end, came after the last that was 1 % better than all before it."""
    ended = sorted(
        (trial for trial in trials if not is_open(trial)), key=lambda trial: trial.get("TrainingEndTime", 0.0)
    )
    best: float | None = None
    count = 0
    for value in [value for trial in ended if (value := value_of(trial)) is not None]:
        gain = math.inf if best is None else (value - best if maximize else best - value)
        improved = gain > 0 and (best is None or gain >= _IMPROVEMENT * abs(best))
        count = 0 if improved else count + 1
        best = value if gain > 0 else best
    return count


def enough(document: Mapping[str, Any], now: float) -> str | None:
    """Why no further trial is wanted and those that run are to end; None while the job goes on."""
    config = document["HyperParameterTuningJobConfig"]
    criteria = config.get("TuningJobCompletionCriteria") or {}
    details = document["TuningJobCompletionDetails"]
    ended = [trial for trial in document[TRIALS] if not is_open(trial)]
    if document["HyperParameterTuningJobStatus"] == "Stopping":
        return "stop"
    if now - document["CreationTime"] >= config["ResourceLimits"].get("MaxRuntimeInSeconds", float("inf")):
        return "runtime"
    if len(ended) >= FAILURES and not any(value_of(trial) is not None for trial in ended):
        return "failures"
    target = criteria.get("TargetObjectiveMetricValue")
    best = value_of(document["BestTrainingJob"]) if "BestTrainingJob" in document else None
    if target is not None and best is not None and (best >= target if maximizes(document) else best <= target):
        return "target"
    limit = (criteria.get("BestObjectiveNotImproving") or {}).get("MaxNumberOfTrainingJobsNotImproving")
    if limit is not None and details["NumberOfTrainingJobsObjectiveNotImproving"] >= limit:
        return "not improving"
    convergence = (criteria.get("ConvergenceDetected") or {}).get("CompleteOnConvergence")
    return "converged" if convergence == "Enabled" and "ConvergenceDetectedTime" in details else None


def end(document: Document, why: str, now: float, failure: str | None = None) -> None:
    """Enter the last status: Failed where no trial succeeded, Stopped where somebody asked for it."""
    succeeded = document["ObjectiveStatusCounters"]["Succeeded"]
    ended = len(document[TRIALS])
    status = "Stopped" if why == "stop" else "Completed"
    if failure is None and why != "stop" and ended and not succeeded:
        failure = NO_SUCCESS.format(count=ended)
    if failure is not None:
        status = "Failed"
        document["FailureReason"] = failure[:1024]
    document.update(HyperParameterTuningJobStatus=status, HyperParameterTuningEndTime=now, _why=why)


def is_hopeless(values: Sequence[float], previous: Iterable[Sequence[float]], *, maximize: bool) -> bool:
    """SageMaker's rule of early stopping: worse than the median of the earlier trials' running averages.

    Args:
        values: of the objective in the trial that runs, one an epoch.
        previous: those of the trials that have ended; at least three of them must have come as far.
        maximize: whether more is better.
    """
    epoch = len(values)
    averages = [statistics.fmean(series[:epoch]) for series in previous if epoch and len(series) >= epoch]
    if len(averages) < _MEDIAN_OF:
        return False
    median = statistics.median(averages)
    return values[-1] < median if maximize else values[-1] > median
