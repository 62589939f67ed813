"""Clocks that were set while a run was on: steps keep their order and durations, their times are put right."""

from __future__ import annotations

import pandas as pd

from kennel.insight.profile.phases import STEP

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
            moved = _moved(moved, node=str(node), pid=int(pid), step=int(ordered.at[index, "step"]), by_s=by_s)
        said += _pauses(ordered, str(node))
    return moved.sort_values("start_s", kind="stable", ignore_index=True), tuple(said)


def _moved(events: pd.DataFrame, *, node: str, pid: int, step: int, by_s: float) -> pd.DataFrame:
    """A process's events of a step and later ones, later by `by_s`; events without a step number stay."""
    later = (events["node"] == node) & (events["pid"] == pid) & (events["step"] >= step)
    return events.assign(start_s=events["start_s"].where(~later, events["start_s"] + by_s))


def _pauses(steps: pd.DataFrame, node: str) -> list[str]:
    between_s = steps["start_s"].diff()
    limit_s = max(_PAUSE_S, _PAUSE_FACTOR * float(between_s.median() or 0.0))
    long = between_s[between_s > limit_s]
    return [
        f"{seconds:.0f} s lie between two steps of {node}, before step {steps.at[index, 'step']}: a pause, missing "
        "steps, or a clock that was set forward."
        for index, seconds in long.items()
    ]
