"""MaxInitializationTime: the first step comes late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kennel.insight.profile.rules.base import ISSUES, QUIET, Evidence, Outcome, not_applicable


@dataclass(frozen=True)
class MaxInitializationTime:
    """Fires when the first step begins later than `threshold` minutes after the run did.

    Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules", MaxInitializationTime.
    """

    threshold: float = 20
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "A large part of the run is over before the first step."
    recommendation: ClassVar[str] = (
        "Send the data with --input-mode FastFile, keep the machine warm with --keep-alive-minutes, and set precision "
        "by hand where measuring it takes long."
    )

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Look at the run's first step."""
        summary = evidence.summary
        if summary is None or not summary.steps:
            return not_applicable("There is no step.")
        minutes = summary.initialization_s / 60
        fires = minutes > self.threshold
        text = f"The first step began {minutes:.1f} minutes after the run."
        return Outcome(ISSUES if fires else QUIET, int(fires), summary.steps, text, {"minutes": minutes})
