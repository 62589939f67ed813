"""OverallFrameworkMetrics: where the steps' time goes; never fires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kennel.insight.profile.measures.steps import typical
from kennel.insight.profile.rules.base import QUIET, Evidence, Outcome, not_applicable


@dataclass(frozen=True)
class OverallFrameworkMetrics:
    """A summary only. Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules"."""

    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "Where the steps' time goes."
    recommendation: ClassVar[str] = "A summary; it never fires."

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Seconds and shares of the parts of a step."""
        parts = typical(evidence.steps)
        whole = sum(parts.values())
        if not whole:
            return not_applicable("There is no step.")
        ordered = sorted(parts.items(), key=lambda item: -item[1])
        text = ", ".join(f"{part} {100 * seconds / whole:.0f} %" for part, seconds in ordered[:3]) + " of a step."
        return Outcome(QUIET, 0, len(evidence.steps), text, {"seconds_of_a_step": parts})
