"""IOBottleneck: the GPU waits for disk or network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kennel.insight.profile.reading import system
from kennel.insight.profile.rules.base import Evidence, Outcome
from kennel.insight.profile.rules.bottleneck import idle_while_busy


@dataclass(frozen=True)
class IOBottleneck:
    """Fires when I/O wait > 50 % and GPU < 10 % in more than `threshold` percent of the samples.

    Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules", IOBottleneck. Needs a GPU.
    """

    threshold: float = 50
    gpu_threshold: float = 10
    io_threshold: float = 50
    patience: int = 1000
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "The GPU idles while the CPU waits for I/O."
    recommendation: ClassVar[str] = (
        "Send the data with --input-mode FastFile or on a faster volume; keep image_cache=auto, so that an image is "
        "read once."
    )

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Look at a run."""
        return idle_while_busy(
            evidence, system.IO_WAIT, busy=self.io_threshold, gpu=self.gpu_threshold, threshold=self.threshold,
            patience=self.patience,
        )  # fmt: skip
