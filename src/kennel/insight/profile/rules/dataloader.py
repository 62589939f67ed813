"""Dataloader: too few or too many loader processes for the cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kennel.insight.profile.rules.base import ISSUES, QUIET, Evidence, Outcome, not_applicable


@dataclass(frozen=True)
class Dataloader:
    """Fires when loader processes are fewer than `min_threshold` or more than `max_threshold` percent of the cores.

    Source: docstring of smdebug_rulesconfig 1.0.1. Fewer than `min_threshold` count only when the steps did wait for
    data: a run whose data is ready needs no more of them.
    """

    min_threshold: int = 70
    max_threshold: int = 200
    scan_interval_us: int = 60_000_000

    about: ClassVar[str] = "The number of loader processes does not fit the number of cores."
    recommendation: ClassVar[str] = "Set num_workers between 70 and 200 % of the cores of each training process."
    wait_share: ClassVar[float] = 0.10  # of a step; less is no shortage

    def evaluate(self, evidence: Evidence) -> Outcome:
        """Compare the loader processes of the busiest node with its cores."""
        loading = evidence.loading
        if loading is None or loading.workers is None:
            return not_applicable("The number of loader processes is not known.")
        if not evidence.run.cores:
            return not_applicable("The number of cores is not known: there are no system metrics.")
        processes = loading.workers * loading.processes
        percent = 100.0 * processes / loading.cores
        short = percent < self.min_threshold and loading.wait_share > self.wait_share
        fires = short or percent > self.max_threshold
        text = (
            f"{processes} loader processes on {loading.cores} cores ({percent:.0f} %); "
            f"steps waited {100 * loading.wait_share:.0f} % of their time for data."
        )
        details = {"processes": processes, "cores": loading.cores, "wait_share": loading.wait_share}
        return Outcome(ISSUES if fires else QUIET, int(fires), len(evidence.steps), text, details)
