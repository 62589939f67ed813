"""Whether a training job has to stop: by the user, by its limits, or because its spot instances are taken away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kennel.emulator.documents.training import MAX_RUNTIME_S, Stop, spent_s
from kennel.emulator.state.store import Document


def due(document: Document, now: float, interrupt_file: Path, warn: Callable[[str], None]) -> Stop | None:
    """Why the job has to stop now, or None.

    Args:
        document: the job.
        now: s since 1970.
        interrupt_file: the sign that its spot instances are taken away; it is removed when it is seen.
        warn: told what was asked for and cannot be.
    """
    if document["TrainingJobStatus"] == "Stopping":
        return Stop.USER
    limits = document.get("StoppingCondition") or {}
    if spent_s(document, now) > limits.get("MaxRuntimeInSeconds", MAX_RUNTIME_S):
        return Stop.MAX_RUNTIME
    if now - document["CreationTime"] > limits.get("MaxWaitTimeInSeconds", float("inf")):
        return Stop.MAX_WAIT
    if not interrupt_file.exists():
        return None
    interrupt_file.unlink()
    if document.get("EnableManagedSpotTraining"):
        return Stop.INTERRUPTED
    warn("An interruption was asked for, but the job has no EnableManagedSpotTraining; it goes on.")
    return None
