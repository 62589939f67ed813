"""The operations on training jobs. documents/training.py says what a document holds."""

from __future__ import annotations

from kennel.emulator.documents.names import Request
from kennel.emulator.documents.training import ENDED, KIND, begin_stopping, training_document
from kennel.emulator.errors import ResourceInUse
from kennel.emulator.operations.context import Context
from kennel.emulator.operations.listing import Listing
from kennel.emulator.operations.resources import change, create, describe, remove
from kennel.emulator.service_model import coverage
from kennel.emulator.state.store import Document
from kennel.emulator.training.channels import channel_notes, read_channels
from kennel.emulator.training.warm_pool import STATUS

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
    if status not in ENDED:
        raise ResourceInUse(f"The training job {name} is in status {status}. Stop it and wait before you delete it.")
    context.jobs.delete(name)
    return remove(context, KIND, name)


def training_problems(request: Request) -> list[str]:
    """What a request lacks that botocore's model does not ask for."""
    problems = []
    if not request.get("AlgorithmSpecification", {}).get("TrainingImage"):
        problems.append("AlgorithmSpecification.TrainingImage must not be null; name the image that trains")
    resources = request.get("ResourceConfig", {})
    if "InstanceType" not in resources and "InstanceGroups" not in resources:
        problems.append("ResourceConfig.InstanceType must not be null; any of SageMaker's does, such as ml.m5.large")
    return problems
