"""GPUMemoryIncrease: the memory of a GPU grows while the run is on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kennel.insight.profile.reading import system
from kennel.insight.profile.rules.base import ISSUES, QUIET, Evidence, Outcome, not_applicable


@dataclass(frozen=True)
class GPUMemoryIncrease:
    """Fires when the moving average over `window` samples grows by more than `increase` points over a window before.

    Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules", GPUMemoryIncrease. Needs a GPU.
    """

    increase: float = 5
    patience: int = 1000
    window: int = 10
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "The memory in use on a GPU grows by leaps."
    recommendation: ClassVar[str] = (
        "Look for tensors that are kept from step to step; lower batch_size before the GPU is full, or take one with "
        "more memory."
    )

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Look at every GPU after its first `patience` samples."""
        chosen = evidence.run.samples[evidence.run.samples["metric"] == system.GPU_MEMORY]
        if chosen.empty:
            return not_applicable("No GPU's memory was sampled.")
        triggered, datapoints, largest = 0, 0, 0.0
        growth: dict[str, float] = {}
        for (node, device), own in chosen.groupby(["node", "device"]):
            values = own["value"].reset_index(drop=True)[self.patience :]
            datapoints += len(values)
            grown = values.rolling(self.window).mean().diff(self.window)
            leaps = grown > self.increase
            triggered += int((leaps & ~leaps.shift(fill_value=False)).sum())  # one leap is one, however long
            growth[f"{node} {device}"] = float(grown.max()) if grown.notna().any() else 0.0
            largest = max(largest, growth[f"{node} {device}"])
        if not datapoints:
            return not_applicable(f"The rule waits for more than {self.patience} samples.")
        text = f"A GPU's memory grew by at most {largest:.1f} points from {self.window} samples to the next."
        return Outcome(ISSUES if triggered else QUIET, triggered, datapoints, text, {"largest_increase": growth})
