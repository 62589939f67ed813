"""OverallSystemUsage: percentiles of each node; never fires."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from kennel.insight.profile.measures.usage import summary
from kennel.insight.profile.rules.base import QUIET, Evidence, Outcome, not_applicable


@dataclass(frozen=True)
class OverallSystemUsage:
    """A summary only. Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules"."""

    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "How much of each machine was used."
    recommendation: ClassVar[str] = "A summary; it never fires."

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Percentiles of each node's metrics."""
        rows = summary(evidence.run.samples)
        if not rows:
            return not_applicable("There are no system metrics.")
        nodes = sorted({row.node for row in rows})
        text = f"{len(rows)} metrics of {', '.join(nodes)}."
        return Outcome(QUIET, 0, len(evidence.run.samples), text, {"usage": [asdict(row) for row in rows]})
