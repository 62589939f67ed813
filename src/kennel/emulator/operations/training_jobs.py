"""Training jobs as the API has them; who runs them is context.Jobs.

CreateTrainingJob stores the document "training-job" NAME with
    all members of the request but Tags, and the defaults that SageMaker fills in (see `_with_defaults`);
    TrainingJobArn, CreationTime, LastModifiedTime (seconds since 1970);
    TrainingJobStatus InProgress, SecondaryStatus Starting, SecondaryStatusTransitions with that one;
    _tags (keys and values), _warnings (a sentence for each member that is only recorded).
StopTrainingJob turns InProgress into Stopping, with its transition. Everything else is written by who runs the job:
further statuses and transitions, TrainingStartTime, TrainingEndTime, TrainingTimeInSeconds, BillableTimeInSeconds,
ModelArtifacts, FailureReason, FinalMetricDataList, WarmPoolStatus, LastModifiedTime.
"""

from __future__ import annotations

import copy

from kennel.classifier.contract import BASE_DIR
from kennel.emulator import coverage
from kennel.emulator.channels import channel_notes, read_channels
from kennel.emulator.errors import ResourceInUse
from kennel.emulator.operations.context import Context, Request
from kennel.emulator.operations.listing import Listing
from kennel.emulator.operations.resources import begin_stop, change, create, describe, remove
from kennel.emulator.store import Document
from kennel.emulator.warm_pool import STATUS

KIND = "training-job"
MAX_RUNTIME_S = 86_400  # StoppingCondition's default
VOLUME_GB = 30
_ENDED = ("Completed", "Failed", "Stopped")
_SUMMARY = ("TrainingJobArn", "TrainingJobStatus", "SecondaryStatus", "TrainingEndTime", "WarmPoolStatus")
_LISTING = Listing(KIND, "TrainingJobName", _SUMMARY, status="TrainingJobStatus", descending=False)


def create_training_job(context: Context, request: Request) -> Document:
    """CreateTrainingJob."""
    name = request["TrainingJobName"]
    problems = training_problems(request)
    warnings = coverage.accept("CreateTrainingJob", request, problems or context.jobs.refusals(request))
    warnings += channel_notes(read_channels(request))
    document = training_document(request, context.arn(KIND, name), context.clock())
    created = create(context, KIND, name, document, warnings)
    context.jobs.start(name)
    return created


def training_document(request: Request, arn: str, now_s: float) -> Document:
    """What is stored of a new training job, but for its tags and warnings."""
    return {
        **_with_defaults(request),
        "TrainingJobArn": arn,
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "SecondaryStatusTransitions": [
            {"Status": "Starting", "StartTime": now_s, "StatusMessage": "Starting the training job"}
        ],
        "CreationTime": now_s,
        "LastModifiedTime": now_s,
    }


def describe_training_job(context: Context, request: Request) -> Document:
    """DescribeTrainingJob."""
    return describe(context, KIND, request["TrainingJobName"])


def list_training_jobs(context: Context, request: Request) -> Document:
    """ListTrainingJobs."""
    if "TrainingPlanArnEquals" in request:  # no job has a plan here
        return {"TrainingJobSummaries": []}
    page = _LISTING.page(context.store, request, equal={STATUS: request.get("WarmPoolStatusEquals")})
    return {"TrainingJobSummaries": page["Items"], "NextToken": page["NextToken"]}


def stop_training_job(context: Context, request: Request) -> Document:
    """StopTrainingJob: SIGTERM, two minutes, SIGKILL; what was written is kept."""
    name, now_s = request["TrainingJobName"], context.clock()
    change(context, KIND, name, lambda document: begin_stopping(document, now_s))
    context.jobs.stop(name)
    return {}


def delete_training_job(context: Context, request: Request) -> Document:
    """DeleteTrainingJob, of one that has ended."""
    name = request["TrainingJobName"]
    status = describe(context, KIND, name)["TrainingJobStatus"]
    if status not in _ENDED:
        raise ResourceInUse(f"The training job {name} is in status {status}. Stop it and wait before you delete it.")
    context.jobs.delete(name)
    return remove(context, KIND, name)


def begin_stopping(document: Document, now_s: float) -> None:
    """Turn InProgress into Stopping, with its transition; nothing where it is Stopping already.

    Raises:
        ValidationException: the job has ended.
    """
    if not begin_stop(document, KIND, "TrainingJobStatus", now_s):
        return
    document["SecondaryStatus"] = "Stopping"
    document["SecondaryStatusTransitions"][-1]["EndTime"] = now_s
    document["SecondaryStatusTransitions"].append(
        {"Status": "Stopping", "StartTime": now_s, "StatusMessage": "Stopping the training job"}
    )


def training_problems(request: Request) -> list[str]:
    """What a request lacks that botocore's model does not ask for."""
    problems = []
    if not request.get("AlgorithmSpecification", {}).get("TrainingImage"):
        problems.append("AlgorithmSpecification.TrainingImage must not be null; name the image that trains")
    resources = request.get("ResourceConfig", {})
    if "InstanceType" not in resources and "InstanceGroups" not in resources:
        problems.append("ResourceConfig.InstanceType must not be null; any of SageMaker's does, such as ml.m5.large")
    return problems


def _with_defaults(request: Request) -> Document:
    """The request with what SageMaker fills in, in places where the job's programs look for it."""
    document = copy.deepcopy(request)
    for flag in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"):
        document.setdefault(flag, False)
    document.setdefault("StoppingCondition", {}).setdefault("MaxRuntimeInSeconds", MAX_RUNTIME_S)
    document["AlgorithmSpecification"].setdefault("TrainingInputMode", "File")
    document["OutputDataConfig"].setdefault("CompressionType", "GZIP")
    resources = document["ResourceConfig"]
    if "InstanceGroups" not in resources:
        resources.setdefault("InstanceCount", 1)
    resources.setdefault("VolumeSizeInGB", VOLUME_GB)
    for channel in document.get("InputDataConfig", []):
        channel.setdefault("CompressionType", "None")
        channel.setdefault("RecordWrapperType", "None")
        channel["DataSource"].get("S3DataSource", {}).setdefault("S3DataDistributionType", "FullyReplicated")
    for member, folder in (("CheckpointConfig", "checkpoints"), ("DebugHookConfig", "output/tensors")):
        if member in document:
            document[member].setdefault("LocalPath", f"{BASE_DIR}/{folder}")
    return document
