"""The framework's timeline: Chrome traces in SageMaker's `framework/pevents` layout, as one table of events.

A file that was cut off gives the events before the cut; what was lost is told, not raised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

NUMBERS = ("epoch", "worker_id", "images", "forward_us", "backward_us", "gpu_memory_bytes")  # of `args`; -1: not given
COLUMNS = ("node", "pid", "name", "phase", "mode", "step", "start_s", "duration_s", *NUMBERS)
_NAME = re.compile(r"(?:\d+_)?(?P<pid>\d+)[-_](?P<node>.+)_(?:python|model_)timeline\.json(?:\.tmp)?")


@dataclass(frozen=True)
class Reading:
    """A table, and what was wrong with the files that it was read from."""

    table: pd.DataFrame
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    """What holds for all events of a file: who wrote it, the zero of its clock, the names of its phases."""

    pid: int
    node: str
    base_us: float
    phases: dict[Any, str]


def read_timelines(paths: Iterable[Path]) -> Reading:
    """All events of all files, in the order of their starts."""
    rows: list[tuple[Any, ...]] = []
    problems: list[str] = []
    for path in paths:
        events, problem = _events_of(path)
        if problem:
            problems.append(problem)
        file = _describe(path, events)
        rows += [row for event in events if event.get("ph") == "X" and (row := _row(event, file))]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Reading(table.sort_values("start_s", kind="stable", ignore_index=True), tuple(problems))


def _events_of(path: Path) -> tuple[list[dict[str, Any]], str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return [], f"{path.name} cannot be read: {error.strerror}."
    try:
        events = json.loads(text)
    except ValueError:
        return _before_the_cut(path.name, text)
    if not isinstance(events, list):
        return [], f"{path.name} holds no list of events."
    return [event for event in events if isinstance(event, dict)], ""


def _before_the_cut(name: str, text: str) -> tuple[list[dict[str, Any]], str]:
    """The layout has one event a line; a file that was being written ends in the middle of one."""
    events: list[dict[str, Any]] = []
    lost = 0
    for line in text.splitlines():
        bare = line.strip().rstrip(",")
        if bare in ("", "[", "]"):
            continue
        try:
            event = json.loads(bare)
        except ValueError:
            event = None
        if isinstance(event, dict):
            events.append(event)
        else:
            lost += 1
    if not lost:  # only the closing bracket is missing: the file was still open when the run ended
        return events, f"{name} was not closed; its {len(events)} lines could be read."
    return events, f"{name} is cut off or damaged: {lost} of {len(events) + lost} lines could not be read."


def _describe(path: Path, events: list[dict[str, Any]]) -> _File:
    found = _NAME.fullmatch(path.name)
    base_us, phases = 0.0, {}
    for event in events:
        arguments = event.get("args")
        if event.get("ph") == "M" and isinstance(arguments, dict):
            base_us = arguments.get("start_time_since_epoch_in_micros", base_us)
            if "name" in arguments:
                phases[event.get("pid")] = str(arguments["name"])
    return _File(int(found["pid"]) if found else 0, found["node"] if found else "unknown", base_us, phases)


def _row(event: dict[str, Any], file: _File) -> tuple[Any, ...] | None:
    """An event's row; None for one without a time."""
    arguments = event.get("args")
    if not isinstance(arguments, dict):
        arguments = {}
    try:
        start_s, duration_s = (file.base_us + float(event["ts"])) / 1e6, float(event["dur"]) / 1e6
    except (KeyError, TypeError, ValueError):
        return None
    name = str(event.get("name", ""))
    return (
        file.node,
        _whole(arguments.get("pid"), file.pid),
        name,
        file.phases.get(event.get("pid"), name),
        str(arguments.get("mode", "")),
        _whole(arguments.get("step_num"), -1),
        start_s,
        max(0.0, duration_s),
        *(_whole(arguments.get(number), -1) for number in NUMBERS),
    )


def _whole(value: Any, otherwise: int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return otherwise
