"""Why a training job is stopped: by the user, by its limits, or because its spot instances are taken away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kennel.emulator.documents import training as job_status
from kennel.emulator.documents.training import life
from kennel.emulator.state.store import Document

USER, MAX_RUNTIME, MAX_WAIT, INTERRUPTED = "user", "max-runtime", "max-wait", "interrupted"
SECONDARY = {USER: "Stopped", MAX_RUNTIME: "MaxRuntimeExceeded", MAX_WAIT: "MaxWaitTimeExceeded"}
_MAX_RUNTIME_S = 86_400  # where the request names none


def due(document: Document, now: float, interrupt_file: Path, warn: Callable[[str], None]) -> str | None:
    """Why the job has to stop now, or None.

    Args:
        document: the job.
        now: s since 1970.
        interrupt_file: the sign that its spot instances are taken away; it is removed when it is seen.
        warn: told what was asked for and cannot be.
    """
    if document["TrainingJobStatus"] == "Stopping":
        return USER
    limits = document.get("StoppingCondition") or {}
    if job_status.spent_s(document, now) > limits.get("MaxRuntimeInSeconds", _MAX_RUNTIME_S):
        return MAX_RUNTIME
    if now - document["CreationTime"] > limits.get("MaxWaitTimeInSeconds", float("inf")):
        return MAX_WAIT
    if not interrupt_file.exists():
        return None
    interrupt_file.unlink()
    if document.get("EnableManagedSpotTraining"):
        return INTERRUPTED
    warn("An interruption was asked for, but the job has no EnableManagedSpotTraining; it goes on.")
    return None


def begin(document: Document, reason: str, now: float) -> None:
    """Note why, and since when."""
    life(document).update(stop=reason, stopped_at=now)
    if reason in (MAX_RUNTIME, MAX_WAIT):
        document["TrainingJobStatus"] = "Stopping"
        job_status.move(document, "Stopping", now)


def interrupt(document: Document, now: float) -> None:
    """Go back to the start, with what the checkpoints hold."""
    job_status.move(document, "Interrupted", now)
    job_status.pause(document, now)
    known = life(document)
    known.update(phase="preparing", attempt=known["attempt"] + 1)
    known.pop("stop"), known.pop("stopped_at")
