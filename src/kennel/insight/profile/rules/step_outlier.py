"""StepOutlier: some steps take much longer than the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from kennel.insight.profile.measures.steps import steady
from kennel.insight.profile.reading import phases
from kennel.insight.profile.rules.base import ISSUES, QUIET, Evidence, Outcome, not_applicable


@dataclass(frozen=True)
class StepOutlier:
    """Fires when more than `n_outliers` steps lie beyond the mean and `stddev` standard deviations.

    Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules", StepOutlier. `mode` is TRAIN, EVAL or
    None for both; each worker's first training step is left out.
    """

    stddev: float = 3
    mode: str | None = None
    n_outliers: int = 10
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "Some steps take much longer than the others."
    recommendation: ClassVar[str] = (
        "See the slow steps below for what they were doing: raise checkpoint_minutes, set debugger=off, or free "
        "the machine from its neighbours."
    )

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Look at the steps of each mode."""
        groups = {}
        if self.mode != "EVAL":
            groups["TRAIN"] = steady(evidence.steps)["duration_s"]
        if self.mode != "TRAIN":
            events = evidence.run.events
            groups["EVAL"] = events[events["part"] == phases.EVAL_STEP]["duration_s"]
        datapoints = sum(len(group) for group in groups.values())
        if not datapoints:
            return not_applicable("There is no step.")
        counts = {mode: self._outliers(group) for mode, group in groups.items() if len(group)}
        fires = sum(counts.values()) > self.n_outliers
        text = f"{sum(counts.values())} of {datapoints} steps lie beyond {self.stddev:g} standard deviations."
        train = groups.get("TRAIN")
        stats = {} if train is None or train.empty else {f"p{q}": float(train.quantile(q / 100)) for q in (50, 95, 99)}
        details = {"outliers": counts, "train_seconds": stats}
        return Outcome(ISSUES if fires else QUIET, int(fires), datapoints, text, details)

    def _outliers(self, durations: pd.Series[float]) -> int:
        return int((durations > durations.mean() + self.stddev * durations.std(ddof=0)).sum())
