"""The document of a training job, and how it changes while the job lives: statuses, transitions, times.

CreateTrainingJob stores the document "training-job" NAME with
    all members of the request but Tags, and the defaults that SageMaker fills in (see `_with_defaults`);
    TrainingJobArn, CreationTime, LastModifiedTime (seconds since 1970);
    TrainingJobStatus InProgress, SecondaryStatus Starting, SecondaryStatusTransitions with that one;
    _tags (keys and values), _warnings (a sentence for each member that is only recorded).
StopTrainingJob turns InProgress into Stopping, with its transition. The package `training` writes everything else:
further statuses and transitions, TrainingStartTime, TrainingEndTime, TrainingTimeInSeconds, BillableTimeInSeconds,
ModelArtifacts, FailureReason, FinalMetricDataList, WarmPoolStatus, LastModifiedTime.

Sources: SageMaker API reference, DescribeTrainingJob and SecondaryStatusTransition; developer guide, "Managed Spot
Training Lifecycle".
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kennel.contract.paths import BASE_DIR
from kennel.emulator.documents.jobs import begin_stop
from kennel.emulator.documents.names import Request
from kennel.emulator.state.store import Document

KIND = "training-job"
ENDED = ("Completed", "Failed", "Stopped")
MAX_RUNTIME_S = 86_400  # StoppingCondition's default
VOLUME_GB = 30
REASON_CHARS = 1024  # of FailureReason
MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Interrupted": "The spot instance was taken away",
    "Restarting": "Starting the training job again after an internal error",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job waited longer than MaxWaitTimeInSeconds provided",
}


@dataclass
class JobFailure(Exception):  # noqa: N818 - the job's, not ours
    """How a job failed, as FailureReason says it; an internal one is tried again when RetryStrategy says so."""

    reason: str
    internal: bool = False


def training_document(request: Request, arn: str, now_s: float) -> Document:
    """What is stored of a new training job, but for its tags and warnings."""
    return {
        **_with_defaults(request),
        "TrainingJobArn": arn,
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "SecondaryStatusTransitions": [
            {"Status": "Starting", "StartTime": now_s, "StatusMessage": MESSAGES["Starting"]}
        ],
        "CreationTime": now_s,
        "LastModifiedTime": now_s,
    }


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


def begin_stopping(document: Document, now_s: float) -> None:
    """Turn InProgress into Stopping, with its transition; nothing where it is Stopping already.

    Raises:
        ValidationException: the job has ended.
    """
    if begin_stop(document, KIND, "TrainingJobStatus", now_s):
        move(document, "Stopping", now_s)


def move(document: Document, secondary: str, now: float) -> None:
    """Enter a secondary status; nothing when it is there already, as after a restart."""
    document["LastModifiedTime"] = now
    if document.get("SecondaryStatus") == secondary and document.get("SecondaryStatusTransitions"):
        return
    transitions = document.setdefault("SecondaryStatusTransitions", [])
    if transitions:
        transitions[-1].setdefault("EndTime", now)
    transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": MESSAGES[secondary]})
    document["SecondaryStatus"] = secondary


def end(document: Document, status: str, secondary: str, now: float, reason: str | None = None) -> None:
    """Enter a last status, with the times that are paid for."""
    if status == "Failed":
        document["FailureReason"] = (reason or "")[:REASON_CHARS]
    pause(document, now)
    move(document, secondary, now)
    document["SecondaryStatusTransitions"][-1]["EndTime"] = now
    document["TrainingJobStatus"] = status
    if "TrainingStartTime" in document:
        spent = max(1, round(life(document)["spent_s"]))
        document |= {"TrainingEndTime": now, "TrainingTimeInSeconds": spent, "BillableTimeInSeconds": spent}


def life(document: Mapping[str, Any]) -> Document:
    """What the emulator alone knows of the job; changes are kept when the document is."""
    new: Document = {"phase": "preparing", "attempt": 0, "retries": 0, "spent_s": 0.0}
    known: Document = document.setdefault("_life", new) if isinstance(document, dict) else document.get("_life", new)
    return known


def resume(document: Document, now: float) -> None:
    """The instances are there from now on, and paid for."""
    document.setdefault("TrainingStartTime", now)
    life(document).setdefault("resumed", now)


def pause(document: Document, now: float) -> None:
    """The instances are not there any more."""
    known = life(document)
    if "resumed" in known:
        known["spent_s"] += now - known.pop("resumed")


def spent_s(document: Document, now: float) -> float:
    """Seconds for which the job had its instances."""
    known = life(document)
    return float(known["spent_s"] + (now - known["resumed"] if "resumed" in known else 0))
