"""What a profiler rule is given and what it gives: AWS's names, parameters and counts.

The names and defaults are those of the package smdebug_rulesconfig 1.0.1, which the SageMaker SDK sends explicitly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

import pandas as pd

from kennel.insight.profile.measures.balance import Balance
from kennel.insight.profile.measures.loading import Loading
from kennel.insight.profile.measures.summary import Summary
from kennel.insight.profile.reading.run import Run

ISSUES, QUIET, NOT_APPLICABLE = "IssuesFound", "NoIssuesFound", "NotApplicable"


@dataclass(frozen=True)
class Evidence:
    """A run and what was computed from it, for the rules."""

    run: Run
    steps: pd.DataFrame
    summary: Summary | None
    loading: Loading | None
    balance: Balance | None


@dataclass(frozen=True)
class Outcome:
    """What a rule found."""

    status: str  # ISSUES, QUIET, NOT_APPLICABLE
    triggered: int  # times
    datapoints: int
    text: str  # one sentence with the numbers
    details: dict[str, Any] = field(default_factory=dict)


def not_applicable(why: str, datapoints: int = 0) -> Outcome:
    """The rule has nothing to look at."""
    return Outcome(NOT_APPLICABLE, 0, datapoints, why)


class ProfilerRule(Protocol):
    """A frozen dataclass whose fields are the rule's parameters."""

    about: ClassVar[str]  # what it looks for
    recommendation: ClassVar[str]  # what to do when it fires

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Look at a run."""


def parameters(rule: Any) -> dict[str, Any]:
    """A rule's parameters by AWS's names."""
    return {one.name: getattr(rule, one.name) for one in fields(rule)}


def pivoted(run: Run, metrics: tuple[str, ...], node: str) -> pd.DataFrame:
    """A node's samples of some metrics side by side, the mean over devices, at each moment of the first metric.

    Samples of one moment are written a few milliseconds apart, so each takes the newest one before it.
    """
    own = run.samples[run.samples["node"] == node]
    tables = [
        own[own["metric"] == metric].groupby("time_s", as_index=False)["value"].mean().rename(columns={"value": metric})
        for metric in metrics
    ]
    made = tables[0]
    for table in tables[1:]:
        made = pd.merge_asof(made, table, on="time_s", direction="nearest", tolerance=1.0)
    return made.dropna(ignore_index=True)
