"""BatchSize: the machine has room for larger batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kennel.insight.profile.reading import system
from kennel.insight.profile.rules.base import ISSUES, QUIET, Evidence, Outcome, not_applicable, pivoted


@dataclass(frozen=True)
class BatchSize:
    """Counts windows in which the 95th percentiles of CPU, GPU and GPU memory all lie below their thresholds.

    Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules", BatchSize. Needs a GPU.
    """

    cpu_threshold_p95: float = 70
    gpu_threshold_p95: float = 70
    gpu_memory_threshold_p95: float = 70
    patience: int = 1000
    window: int = 500
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "CPU, GPU and GPU memory all have room: batches could be larger."
    recommendation: ClassVar[str] = "Raise batch_size (and lr with it), or take a smaller instance type."

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Look at each node's windows after its first `patience` samples."""
        run, metrics = evidence.run, (system.GPU, system.CPU, system.GPU_MEMORY)
        borders = (self.gpu_threshold_p95, self.cpu_threshold_p95, self.gpu_memory_threshold_p95)
        triggered = datapoints = 0
        peaks: dict[str, dict[str, float]] = {}
        for node in run.gpus:
            table = pivoted(run, metrics, node)
            datapoints += len(table)
            for begin in range(self.patience, max(self.patience, len(table) - self.window) + 1, self.window):
                window = table[begin : begin + self.window]
                if len(window) < 2:
                    continue
                p95 = [float(window[metric].quantile(0.95)) for metric in metrics]
                triggered += all(value < border for value, border in zip(p95, borders, strict=True))
                peaks[node] = dict(zip(metrics, p95, strict=True))
        if not run.gpus:
            return not_applicable("No GPU was sampled.")
        if datapoints <= self.patience:
            return not_applicable(f"{datapoints} samples; the rule waits for more than {self.patience}.", datapoints)
        text = f"{triggered} windows of {self.window} samples had room in CPU, GPU and GPU memory."
        return Outcome(ISSUES if triggered else QUIET, triggered, datapoints, text, {"p95": peaks})
