"""Several runs in one folder: told apart by their step numbers, one of them chosen."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pandas as pd

from kennel.insight.profile.reading.phases import STEP


@dataclass(frozen=True)
class Segment:
    """The events of one run."""

    events: pd.DataFrame
    problems: tuple[str, ...] = ()


def segments(events: pd.DataFrame, which: int | None = None) -> Segment:
    """The events of one run of the folder.

    A process whose step numbers begin again, or a process whose steps begin after all others' have ended, is another
    run: a restart after an interruption, or a second job that was given the same folder.

    Args:
        events: of the whole folder, in the order of time.
        which: the run, counted from 1; None: the last one. One that is not there gives the last, too, and says so.
    """
    spans = _runs(events[events["part"] == STEP])
    is_there = which is not None and 1 <= which <= len(spans)
    absent = () if is_there or which is None else (f"There is no run {which} in the folder; the last one is shown.",)
    if len(spans) < 2:
        return Segment(events, absent)
    number = which if which is not None and is_there else len(spans)
    borders = [-float("inf"), *(_border(events, a[1], b[0]) for a, b in itertools.pairwise(spans))]
    begin_s = borders[number - 1]
    end_s = borders[number] if number < len(spans) else float("inf")
    chosen = events[(events["start_s"] >= begin_s) & (events["start_s"] < end_s)].reset_index(drop=True)
    said = (
        f"The folder holds {len(spans)} runs (restarts, or jobs that shared it); this is run {number}. "
        f"Choose another with --run N."
    )
    return Segment(chosen, (*absent, said))


def _runs(steps: pd.DataFrame) -> list[tuple[float, float]]:
    """First start and last end of each run, in order; processes that overlap in time are ranks of one run."""
    spans = sorted(span for _, group in steps.groupby(["node", "pid"], sort=False) for span in _restarts(group))
    merged: list[tuple[float, float]] = []
    for begin_s, end_s in spans:
        if merged and begin_s < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
        else:
            merged.append((begin_s, end_s))
    return merged


def _restarts(steps: pd.DataFrame) -> list[tuple[float, float]]:
    """A process's spans. In files' order of time a smaller step number after a larger one is a new beginning.

    A clock that was set back looks the same for a few steps and then goes on where it was; a new beginning does not:
    its numbers are there twice.
    """
    twice = steps["step"].duplicated(keep="first")
    begins = twice & ~twice.shift(fill_value=False)
    number = begins.cumsum()
    ends = steps["start_s"] + steps["duration_s"]
    return [(float(part["start_s"].min()), float(ends[part.index].max())) for _, part in steps.groupby(number)]


def _border(events: pd.DataFrame, end_s: float, begin_s: float) -> float:
    """Between two runs: where nothing was recorded for the longest time."""
    between = events[(events["start_s"] >= end_s) & (events["start_s"] <= begin_s)]["start_s"]
    if len(between) < 2:
        return begin_s
    gaps = between.diff()
    return float(between.loc[gaps.idxmax()])
