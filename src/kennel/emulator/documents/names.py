"""The names that all stored documents share."""

from __future__ import annotations

from typing import Any

ACCOUNT = "000000000000"
TAGS = "_tags"  # a document's private member: the keys with their values
WARNINGS = "_warnings"  # a document's private member: what was asked for and is not done, a sentence each
Request = dict[str, Any]


def resource_arn(region: str, kind: str, name: str) -> str:
    """The Amazon Resource Name of a resource of SageMaker."""
    return f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind}/{name}"
