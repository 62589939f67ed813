"""How a training job's document changes while it lives: statuses, transitions, times.

Sources: SageMaker API reference, DescribeTrainingJob and SecondaryStatusTransition; developer guide, "Managed Spot
Training Lifecycle".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
KIND = "training-job"
ENDED = ("Completed", "Failed", "Stopped")
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
