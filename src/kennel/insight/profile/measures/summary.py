"""The run as a whole: initialisation, training loop and finalisation, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kennel.insight.profile.reading import phases
from kennel.insight.profile.reading.run import Run

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Summary:
    """Seconds of the parts of a run; initialisation ends when the first step begins, the loop when the last ends."""

    begin_s: float  # since 1970
    end_s: float
    initialization_s: float
    loop_s: float
    finalization_s: float
    training_s: float  # in the loop: steps
    validation_s: float
    checkpoint_s: float
    steps: int
    epochs: int
    workers: int
    images_per_second: float | None

    @property
    def duration_s(self) -> float:
        """From the first to the last event."""
        return self.end_s - self.begin_s

    def share(self, seconds: float) -> float:
        """Percent of the duration."""
        return 100.0 * seconds / self.duration_s if self.duration_s > 0 else 0.0


@dataclass(frozen=True)
class Cost:
    """What the run cost at an hourly price, and what of that bought no training."""

    usd_per_hour: float
    usd: float
    waiting_usd: float  # while the steps waited for data
    source: str


def summarise(run: Run, steps: pd.DataFrame) -> Summary | None:
    """The parts of the run; None where nothing was recorded."""
    span = _span(run)
    if span is None:
        return None
    begin_s, end_s = span
    loop = _loop(run.events, steps)
    first_s, last_s = loop or (end_s, end_s)
    seconds = run.events.groupby("part")["duration_s"].sum() if len(run.events) else {}
    workers = max(1, steps["worker"].nunique())
    rates = [row["images_per_second"] for row in run.epochs if isinstance(row.get("images_per_second"), (int, float))]
    return Summary(
        begin_s, end_s, first_s - begin_s, last_s - first_s, end_s - last_s,
        training_s=float(steps["duration_s"].sum()) / workers,
        validation_s=float(seconds.get(phases.VALIDATION, 0.0)) / workers,
        checkpoint_s=float(seconds.get(phases.CHECKPOINT, 0.0)),
        steps=int(steps["step"].nunique()), epochs=len(run.epochs), workers=workers if len(steps) else 0,
        images_per_second=rates[-1] if rates else None,
    )  # fmt: skip


def _span(run: Run) -> tuple[float, float] | None:
    """Of the timeline, or of the samples where there is no timeline."""
    if len(run.events):
        return float(run.events["start_s"].min()), float((run.events["start_s"] + run.events["duration_s"]).max())
    return (float(run.samples["time_s"].min()), float(run.samples["time_s"].max())) if len(run.samples) else None


def _loop(events: pd.DataFrame, steps: pd.DataFrame) -> tuple[float, float] | None:
    """From the first step's beginning to the end of the last step, validation or checkpoint."""
    if steps.empty:
        return None
    inside = events[events["part"].isin([phases.VALIDATION, phases.EVAL_STEP, phases.CHECKPOINT, phases.STEP])]
    return float(steps["start_s"].min()), float((inside["start_s"] + inside["duration_s"]).max())


def cost(summary: Summary, waiting_share: float, usd_per_hour: float, source: str = "") -> Cost:
    """The run's price.

    Args:
        summary: its duration.
        waiting_share: of a step spent waiting for data, 0 to 1.
        usd_per_hour: of all machines of the run.
        source: where the price comes from.
    """
    usd = usd_per_hour * summary.duration_s / _HOUR_S
    waiting = usd_per_hour * summary.training_s * waiting_share / _HOUR_S
    return Cost(usd_per_hour, usd, waiting, source)
