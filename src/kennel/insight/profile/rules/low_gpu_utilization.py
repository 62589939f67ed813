"""LowGPUUtilization: a GPU is used little, or by fits and starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from kennel.insight.profile.reading import system
from kennel.insight.profile.rules.base import ISSUES, QUIET, Evidence, Outcome, not_applicable


@dataclass(frozen=True)
class LowGPUUtilization:
    """Fires for a window whose 95th percentile is below `threshold_p95` (low), or above it with a 5th percentile below
    `threshold_p5` (fluctuating).

    Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules", LowGPUUtilization. Needs a GPU.
    """

    threshold_p95: float = 70
    threshold_p5: float = 10
    window: int = 500
    patience: int = 1000
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "A GPU is used little, or by fits and starts."
    recommendation: ClassVar[str] = (
        "Feed it faster (num_workers, image_cache), give it more at once (batch_size, precision=auto), or take "
        "a smaller instance type."
    )

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Look at every GPU's windows after its first `patience` samples."""
        chosen = evidence.run.samples[evidence.run.samples["metric"] == system.GPU]
        if chosen.empty:
            return not_applicable("No GPU was sampled.")
        low = fluctuating = datapoints = 0
        for _, own in chosen.groupby(["node", "device"]):
            values = own["value"].reset_index(drop=True)[self.patience :]
            datapoints += len(values)
            for begin in range(0, max(0, len(values) - self.window) + 1, self.window):
                kind = self._kind(values[begin : begin + self.window])
                low += kind == "low"
                fluctuating += kind == "fluctuating"
        if not datapoints:
            return not_applicable(f"The rule waits for more than {self.patience} samples.")
        text = f"{low} windows of {self.window} samples were low, {fluctuating} fluctuating."
        details = {"low": low, "fluctuating": fluctuating}
        return Outcome(ISSUES if low + fluctuating else QUIET, low + fluctuating, datapoints, text, details)

    def _kind(self, window: pd.Series[float]) -> str:
        if len(window) < 2:
            return ""
        if window.quantile(0.95) < self.threshold_p95:
            return "low"
        return "fluctuating" if window.quantile(0.05) < self.threshold_p5 else ""
