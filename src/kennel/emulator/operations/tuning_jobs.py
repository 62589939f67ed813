"""Hyperparameter tuning jobs as the API has them; who runs them is context.tunings.

CreateHyperParameterTuningJob stores the document "hyper-parameter-tuning-job" NAME with all members of the request but
Tags, with what Autotune fills in; HyperParameterTuningJobArn, CreationTime, LastModifiedTime (seconds since 1970),
HyperParameterTuningJobStatus InProgress, the counters; and of the engine's own `_seed` and `_engine` of the search,
`_parents` (the trials of warm-start parents) and `_trials` (see tuning/status.py).
StopHyperParameterTuningJob turns InProgress into Stopping. Everything else is written by who runs the job.
"""

from __future__ import annotations

import copy
import secrets

from kennel.emulator.documents.jobs import begin_stop
from kennel.emulator.documents.names import Request
from kennel.emulator.errors import ResourceInUse, ResourceLimitExceeded
from kennel.emulator.operations.context import Context
from kennel.emulator.operations.listing import Listing, page_of
from kennel.emulator.operations.resources import change, create, describe, remove
from kennel.emulator.operations.training_jobs import training_problems
from kennel.emulator.service_model import coverage
from kennel.emulator.state.log_files import WARNING_LOGS
from kennel.emulator.state.store import Document, MissingError
from kennel.emulator.training.channels import channel_notes, read_channels
from kennel.emulator.tuning.problem import TPE, choose_engine
from kennel.emulator.tuning.request import quota_problem, tuning_problems, with_autotune
from kennel.emulator.tuning.status import ENDED, KIND, TRIALS, refresh
from kennel.emulator.tuning.trials import OBJECTIVE_KEY, definitions_of, objective_of, training_request
from kennel.emulator.tuning.warm_start import inherited, parents_of, warm_start_problems

_STATUS = "HyperParameterTuningJobStatus"
_CONFIG = "HyperParameterTuningJobConfig"
_SUMMARY = (
    "HyperParameterTuningJobArn", "HyperParameterTuningEndTime", "TrainingJobStatusCounters", "ObjectiveStatusCounters",
    _CONFIG,
)  # fmt: skip
_LISTING = Listing(
    KIND, "HyperParameterTuningJobName", _SUMMARY, status=_STATUS, descending=False, sort_by="Name"
)  # fmt: skip
_TRIAL_ORDERS = {  # SortBy's values
    "Name": "TrainingJobName", "CreationTime": "CreationTime", "Status": "TrainingJobStatus",
    "FinalObjectiveMetricValue": "_value",
}  # fmt: skip


def create_hyper_parameter_tuning_job(context: Context, request: Request) -> Document:
    """CreateHyperParameterTuningJob."""
    name = request["HyperParameterTuningJobName"]
    problems = tuning_problems(request)
    parents = _parents(context, request)
    if not problems:
        problems = [*warm_start_problems(request, parents), *_trial_problems(context, request)]
    warnings = coverage.accept("CreateHyperParameterTuningJob", request, list(dict.fromkeys(problems)))
    warnings += _channel_notes(request)
    too_much = quota_problem(request)
    if too_much:
        raise ResourceLimitExceeded(too_much)
    now_s = context.clock()
    document = _document(request, now_s) | {"HyperParameterTuningJobArn": context.arn(KIND, name)}
    document["_parents"] = inherited([parent for parent in parents.values() if parent is not None])
    refresh(document, now_s)
    created = create(context, KIND, name, document, warnings)
    if document[_CONFIG]["Strategy"] == "Bayesian":
        context.home.logs.note(WARNING_LOGS, f"{KIND}/{name}", [f"Suggestions come from {choose_engine()[1]}."])
    context.tunings.start(name)
    return created


def _document(request: Request, now_s: float) -> Document:
    document = copy.deepcopy(request)
    config = document[_CONFIG] = with_autotune(document)
    config.setdefault("TrainingJobEarlyStoppingType", "Off")
    for definition in definitions_of(document):
        metric = objective_of(document, definition)["MetricName"]
        definition["StaticHyperParameters"] = {
            **(definition.get("StaticHyperParameters") or {}), OBJECTIVE_KEY: metric
        }  # fmt: skip
    return document | {
        _STATUS: "InProgress",
        "CreationTime": now_s,
        "LastModifiedTime": now_s,
        "_seed": config.get("RandomSeed", secrets.randbelow(2**31)),
        "_engine": choose_engine()[0] if config["Strategy"] == "Bayesian" else TPE,
        TRIALS: [],
    }


def _parents(context: Context, request: Request) -> dict[str, Document | None]:
    found: dict[str, Document | None] = {}
    for name in parents_of(request):
        try:
            found[name] = context.store.get(KIND, name)
        except MissingError:
            found[name] = None
    return found


def _trial_problems(context: Context, request: Request) -> list[str]:
    """What would be wrong with the training jobs."""
    found: list[str] = []
    for definition in definitions_of(request):
        sample = training_request(request, definition, "trial", {})
        found += training_problems(sample) or context.jobs.refusals(sample)
    return found


def _channel_notes(request: Request) -> list[str]:
    samples = [training_request(request, definition, "trial", {}) for definition in definitions_of(request)]
    return list(dict.fromkeys(note for sample in samples for note in channel_notes(read_channels(sample))))


def describe_hyper_parameter_tuning_job(context: Context, request: Request) -> Document:
    """DescribeHyperParameterTuningJob."""
    document = describe(context, KIND, request["HyperParameterTuningJobName"])
    until_s = document.get("HyperParameterTuningEndTime", context.clock())
    return document | {"ConsumedResources": {"RuntimeInSeconds": round(until_s - document["CreationTime"])}}


def list_hyper_parameter_tuning_jobs(context: Context, request: Request) -> Document:
    """ListHyperParameterTuningJobs."""
    page = _LISTING.page(context.store, request)
    for one in page["Items"]:
        one |= {"Strategy": one[_CONFIG]["Strategy"], "ResourceLimits": one[_CONFIG]["ResourceLimits"]}
    return {"HyperParameterTuningJobSummaries": page["Items"], "NextToken": page["NextToken"]}


def list_training_jobs_for_hyper_parameter_tuning_job(context: Context, request: Request) -> Document:
    """ListTrainingJobsForHyperParameterTuningJob; sorted by the objective, those without one are left out."""
    trials = describe(context, KIND, request["HyperParameterTuningJobName"])[TRIALS]
    member = _TRIAL_ORDERS[request.get("SortBy", "Name")]
    shown = [{**trial, "_value": _objective(trial)} for trial in trials]
    wanted = request.get("StatusEquals")
    shown = [one for one in shown if wanted in (None, one["TrainingJobStatus"]) and one[member] is not None]
    page = page_of(shown, request, member, "TrainingJobName")
    return {"TrainingJobSummaries": page["Items"], "NextToken": page["NextToken"]}


def _objective(trial: Document) -> float | None:
    final = trial.get("FinalHyperParameterTuningJobObjectiveMetric")
    return float(final["Value"]) if final else None


def stop_hyper_parameter_tuning_job(context: Context, request: Request) -> Document:
    """StopHyperParameterTuningJob: its training jobs are stopped, too."""
    name, now_s = request["HyperParameterTuningJobName"], context.clock()
    change(context, KIND, name, lambda document: begin_stop(document, KIND, _STATUS, now_s))
    context.tunings.stop(name)
    return {}


def delete_hyper_parameter_tuning_job(context: Context, request: Request) -> Document:
    """DeleteHyperParameterTuningJob, of one that has ended; its training jobs stay."""
    name = request["HyperParameterTuningJobName"]
    status = describe(context, KIND, name)[_STATUS]
    if status not in ENDED:
        raise ResourceInUse(f"The tuning job {name} is in status {status}. Stop it and wait before you delete it.")
    context.tunings.delete(name)
    return remove(context, KIND, name)
