"""STS GetCallerIdentity, which SDKs ask before they name buckets and roles."""

from __future__ import annotations

from kennel.emulator.documents.names import ACCOUNT, Request
from kennel.emulator.operations.context import Context
from kennel.emulator.state.store import Document


def get_caller_identity(context: Context, request: Request) -> Document:  # noqa: ARG001 - the shape of an operation
    """The only user of the only account."""
    return {"UserId": "KENNEL", "Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/kennel"}
