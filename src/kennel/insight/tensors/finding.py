"""What rules give back: findings, and a verdict on each rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A rule that fired."""

    rule: str
    step: int  # of its mode, counted from 0 as smdebug does
    mode: str  # TRAIN, EVAL, PREDICT or GLOBAL
    tensor: str  # empty where a finding is about no single one
    value: float  # what was measured
    threshold: float  # what it was held against
    sentence: str  # what is wrong
    advice: str  # what to change, by the hyperparameter's name

    def to_json(self) -> dict[str, Any]:
        """All members; JSON has no numbers that are not finite, so those are strings: nan, inf, -inf."""
        values = asdict(self)
        return {name: _number(value) if isinstance(value, float) else value for name, value in values.items()}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


class Status(Enum):
    """How the evaluation of a rule ended, or how it stands."""

    IN_PROGRESS = "InProgress"
    NO_ISSUES_FOUND = "NoIssuesFound"
    ISSUES_FOUND = "IssuesFound"
    NOT_ENOUGH_DATA = "NotEnoughData"
    ERROR = "Error"


@dataclass(frozen=True)
class Verdict:
    """A rule's row in the table."""

    rule: str
    status: Status
    triggered: int = 0  # how often it fired; only the first findings are kept
    datapoints: int = 0  # values that it judged
    detail: str = ""  # what is missing, or the error
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All members."""
        return {**asdict(self), "status": self.status.value, "parameters": dict(self.parameters)}
