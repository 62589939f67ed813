"""CPUBottleneck: the GPU waits for the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kennel.insight.profile.reading import system
from kennel.insight.profile.rules.base import Evidence, Outcome
from kennel.insight.profile.rules.bottleneck import idle_while_busy


@dataclass(frozen=True)
class CPUBottleneck:
    """Fires when CPU > 90 % and GPU < 10 % in more than `threshold` percent of the samples.

    Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules", CPUBottleneck. Needs a GPU.
    """

    threshold: float = 50
    gpu_threshold: float = 10
    cpu_threshold: float = 90
    patience: int = 1000
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "The GPU idles while the CPU is full."
    recommendation: ClassVar[str] = (
        "Raise num_workers up to the cores, keep image_cache=auto, or take an instance with more cores for each GPU."
    )

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Look at a run."""
        return idle_while_busy(
            evidence, system.CPU, busy=self.cpu_threshold, gpu=self.gpu_threshold, threshold=self.threshold,
            patience=self.patience,
        )  # fmt: skip
