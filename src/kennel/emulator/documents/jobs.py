"""What the documents of all kinds of jobs have in common."""

from __future__ import annotations

from kennel.emulator.errors import ValidationException
from kennel.emulator.state.store import Document


def begin_stop(document: Document, kind: str, member: str, now_s: float) -> bool:
    """Note that a job is to stop; False when that is known already.

    Raises:
        ValidationException: it has ended.
    """
    status = document[member]
    if status == "Stopping":
        return False
    if status != "InProgress":
        job = kind.replace("-", " ")
        raise ValidationException(f"The request was rejected because the {job} is in status {status}.")
    document.update({member: "Stopping", "LastModifiedTime": now_s})
    return True
