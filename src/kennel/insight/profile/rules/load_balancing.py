"""LoadBalancing: one worker is busy while another waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kennel.insight.profile.rules.base import ISSUES, QUIET, Evidence, Outcome, not_applicable


@dataclass(frozen=True)
class LoadBalancing:
    """Fires when the histograms of two workers' use differ by more than `threshold` (0: the same, 1: disjoint).

    Source: Amazon SageMaker developer guide, "List of Debugger Built-in Rules", LoadBalancing. Without GPUs the workers
    are the training processes, and busy is all of a step but the wait for data; there are then steps instead of
    samples, and a tenth of `patience` is enough.
    """

    threshold: float = 0.5
    patience: int = 1000
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "The work is not spread evenly over GPUs or training processes."
    recommendation: ClassVar[str] = (
        "Give every host the same number of images (S3DataDistributionType), the same num_workers and "
        "the same instance type."
    )

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Compare all pairs."""
        balance = evidence.balance
        if balance is None:
            return not_applicable("There are not two GPUs or training processes to compare.")
        patience = self.patience if balance.unit == "GPU" else self.patience // 10
        if balance.datapoints < patience:
            return not_applicable(f"{balance.datapoints} values; the rule waits for {patience}.", balance.datapoints)
        fires = balance.distance > self.threshold
        pair = " and ".join(balance.pair or ())
        text = f"The histograms of {pair} differ by {balance.distance:.2f}, the largest distance of all pairs."
        details = {"distance": balance.distance, "mean_percent": balance.means}
        return Outcome(ISSUES if fires else QUIET, int(fires), balance.datapoints, text, details)
