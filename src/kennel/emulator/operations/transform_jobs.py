"""Batch transform jobs as the API has them; who runs them is context.transforms.

CreateTransformJob stores the document "transform-job" NAME with all members of the request but Tags, TransformJobArn,
TransformJobStatus InProgress, CreationTime and LastModifiedTime (seconds since 1970), and `_model`, a copy of the
model's document. StopTransformJob turns InProgress into Stopping. Everything else is written by who runs the job.
"""

from __future__ import annotations

import copy

from kennel.emulator.documents.jobs import begin_stop
from kennel.emulator.documents.names import Request
from kennel.emulator.errors import ValidationException
from kennel.emulator.operations.context import Context
from kennel.emulator.operations.listing import Listing
from kennel.emulator.operations.models import containers_of, require_model
from kennel.emulator.operations.resources import Collection, change, create
from kennel.emulator.service_model import coverage
from kennel.emulator.state.store import Document
from kennel.emulator.transform.job import KIND, MODEL

_SUMMARY = ("TransformJobArn", "TransformJobStatus", "TransformEndTime", "FailureReason")
_JOBS = Collection(Listing(KIND, "TransformJobName", _SUMMARY, status="TransformJobStatus"), "TransformJobSummaries")
_NOTHING = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}  # DataProcessing's defaults


def create_transform_job(context: Context, request: Request) -> Document:
    """CreateTransformJob."""
    name, now_s = request["TransformJobName"], context.clock()
    asked = _without_defaults(request)
    warnings = coverage.accept("CreateTransformJob", asked, context.transforms.refusals(asked))
    model = require_model(context, request["ModelName"])
    if containers_of(model)[0].get("Mode") == "MultiModel":
        raise ValidationException(
            f"The model {request['ModelName']} is a multi-model one, which batch transform does not take. Create a "
            "model of one artifact."
        )
    document = {
        **request,
        "TransformJobArn": context.arn(KIND, name),
        "TransformJobStatus": "InProgress",
        "CreationTime": now_s,
        "LastModifiedTime": now_s,
        MODEL: model,
    }
    created = create(context, KIND, name, document, warnings)
    context.transforms.start(name)
    return created


describe_transform_job, list_transform_jobs = _JOBS.describe, _JOBS.list


def stop_transform_job(context: Context, request: Request) -> Document:
    """StopTransformJob: outputs that are written stay, those under way are dropped."""
    name, now_s = request["TransformJobName"], context.clock()
    change(context, KIND, name, lambda document: begin_stop(document, KIND, "TransformJobStatus", now_s))
    context.transforms.stop(name)
    return {}


def _without_defaults(request: Request) -> Request:
    """The request without what of DataProcessing changes nothing."""
    asked = copy.copy(request)
    given = asked.pop("DataProcessing", {})
    changes = {member: value for member, value in given.items() if value != _NOTHING.get(member)}
    return {**asked, "DataProcessing": changes} if changes else asked
