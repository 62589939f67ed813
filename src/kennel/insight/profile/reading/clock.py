"""Clocks that were set while a run was on: steps keep their order and durations, their times are put right."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from kennel.insight.profile.reading.phases import STEP

_PAUSE_FACTOR, _PAUSE_S = 100.0, 60.0  # a gap this many median steps long, and this long, is told


def without_jumps(events: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Events whose time never runs back, and a sentence for each jump and each pause.

    A clock that was set back shows as a step that begins before the one before it had ended by more than its own
    duration. What was recorded at that moment and later, in the order of step numbers, is moved behind it.
    """
    steps = events[events["part"] == STEP]
    said: list[str] = []
    moved = events
    for (node, pid), own in steps.groupby(["node", "pid"], sort=False):
        ordered = own.sort_values("step", kind="stable")
        ends = (ordered["start_s"] + ordered["duration_s"]).shift()
        back = ordered["start_s"] < ends - ordered["duration_s"] - 0.5
        for index in ordered.index[back]:
            by_s = float(ends[index] - ordered.at[index, "start_s"])
            said.append(f"The clock of {node} was set back by {by_s:.1f} s at step {ordered.at[index, 'step']}.")
            number = int(ordered.at[index, "step"])
            late = _unnumbered_after(events, ordered, index)
            moved = _moved(moved, node=str(node), pid=int(pid), step=number, by_s=by_s, late=late)
        said += _pauses(ordered, str(node))
    return moved.sort_values("start_s", kind="stable", ignore_index=True), tuple(said)


def _moved(events: pd.DataFrame, *, node: str, pid: int, step: int, by_s: float, late: pd.Series[bool]) -> pd.DataFrame:
    """A process's events of a step and later ones, and the `late` ones among the others, later by `by_s`."""
    later = (
        (events["node"] == node) & (events["pid"] == pid) & ((_is_numbered(events) & (events["step"] >= step)) | late)
    )
    return events.assign(start_s=events["start_s"].where(~later, events["start_s"] + by_s))


def _unnumbered_after(events: pd.DataFrame, steps: pd.DataFrame, index: Hashable) -> pd.Series[bool]:
    """Events without a training step's number that lie nearer to the steps after a jump than to those before it.

    Validations and the run's end were recorded by the clock as it was set. Where it was set back by less than the run
    had taken, times are there twice, and what cannot be told apart stays.
    """
    place = steps.index.get_loc(index)
    before, after = steps.iloc[:place], steps.iloc[place:]
    return ~_is_numbered(events) & (_distance_s(events, after) < _distance_s(events, before))


def _is_numbered(events: pd.DataFrame) -> pd.Series[bool]:
    """Events that carry a training step's number; validation batches are counted on their own."""
    return (events["step"] >= 0) & (events["mode"] != "EVAL")


def _distance_s(events: pd.DataFrame, steps: pd.DataFrame) -> pd.Series[float]:
    """From each event's start to the stretch of time that the steps fill; 0 inside."""
    begin_s, end_s = steps["start_s"].min(), (steps["start_s"] + steps["duration_s"]).max()
    return (begin_s - events["start_s"]).clip(lower=0) + (events["start_s"] - end_s).clip(lower=0)


def _pauses(steps: pd.DataFrame, node: str) -> list[str]:
    between_s = steps["start_s"].diff()
    limit_s = max(_PAUSE_S, _PAUSE_FACTOR * float(between_s.median() or 0.0))
    long = between_s[between_s > limit_s]
    return [
        f"{seconds:.0f} s lie between two steps of {node}, before step {steps.at[index, 'step']}: a pause, missing "
        "steps, or a clock that was set forward."
        for index, seconds in long.items()
    ]
