"""One run as it is read from its files: events, samples, learning curve, findings, and what is missing or odd."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from kennel.insight.profile.reading import system
from kennel.insight.profile.reading.clock import without_jumps
from kennel.insight.profile.reading.phases import with_parts
from kennel.insight.profile.reading.segments import segments
from kennel.insight.profile.reading.sources import Sources
from kennel.insight.profile.reading.system import read_system
from kennel.insight.profile.reading.timeline import Reading, read_timelines

_MARGIN_S = 5.0  # samples this long before and after a run's events still belong to it


@dataclass(frozen=True)
class Run:
    """Everything that was recorded of a run; times are seconds since 1970.

    `events` has timeline.COLUMNS and `part`; `samples` has system.COLUMNS.
    """

    name: str
    events: pd.DataFrame
    samples: pd.DataFrame
    epochs: tuple[dict[str, Any], ...] = ()  # metrics.jsonl
    findings: tuple[dict[str, Any], ...] = ()  # of the debugger's rules
    operators: tuple[dict[str, Any], ...] = ()  # windows of torch.profiler
    processes: tuple[dict[str, Any], ...] = ()  # what does not change: node, num_workers, cores, device and so on
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    images: int | None = None  # training images
    problems: tuple[str, ...] = ()  # what is missing, damaged or odd, as sentences

    def named(self, name: str) -> Run:
        """The same run by another name."""
        return replace(self, name=name)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The machines that wrote anything."""
        return tuple(sorted({*self.events["node"], *self.samples["node"]}))

    @property
    def cores(self) -> dict[str, int]:
        """Cores of each node that the run may use: its quota, or what was sampled."""
        sampled = {node: len(names) for node, names in system.devices(self.samples, system.CPU).items()}
        told = {one["node"]: max(1, round(one["cpu_limit"])) for one in self.processes if one.get("cpu_limit")}
        return sampled | told

    @property
    def gpus(self) -> dict[str, list[str]]:
        """GPUs of each node; empty where there is none."""
        return system.devices(self.samples, system.GPU)

    def number(self, name: str) -> float | None:
        """A setting that is a number: as the processes told it, else the hyperparameter; None where it is not known."""
        for values in (*self.processes, self.hyperparameters):
            try:
                return float(values[name])
            except (KeyError, TypeError, ValueError):
                continue
        return None


def read(sources: Sources, name: str, which: int | None = None) -> Run:
    """Read a run from its files; damage becomes a sentence in `problems`.

    Args:
        sources: the files.
        name: of the job, for the report's title; empty: as the run told it, or nothing.
        which: the number of the run, from 1, where the folder holds several; None: the last one.
    """
    problems: list[str] = []
    timeline, samples = read_timelines(sources.timelines), read_system(sources.system)
    problems += [*_missing(sources, timeline, samples), *timeline.problems, *samples.problems]
    chosen = segments(with_parts(timeline.table), which)
    problems += chosen.problems
    events, jumps = without_jumps(chosen.events)
    problems += jumps
    processes = _processes(_objects(sources.processes, problems), events)
    return Run(
        name or str(next((one["job"] for one in processes if one.get("job")), "")),
        events,
        _around(samples.table, events),
        epochs=_lines(sources.metrics, problems),
        findings=_findings(sources.findings, problems),
        operators=_objects(sources.operators, problems),
        processes=processes,
        hyperparameters=sources.hyperparameters or {},
        images=sources.images,
        problems=tuple(problems),
    )


def _missing(sources: Sources, timeline: Reading, samples: Reading) -> list[str]:
    missing: list[str] = []
    if not sources.timelines:
        missing.append("There is no timeline (framework/pevents): steps and their parts are not shown.")
    elif timeline.table.empty:
        missing.append("The timeline holds no event: steps and their parts are not shown.")
    if not sources.system:
        missing.append("There are no system metrics (system/incremental): usage is not shown.")
    elif samples.table.empty:
        missing.append("The system metrics hold no sample: usage is not shown.")
    return missing


def _around(samples: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """The samples of the run's time; all of them where there is no event."""
    if events.empty or samples.empty:
        return samples
    begin_s, end_s = events["start_s"].min(), (events["start_s"] + events["duration_s"]).max()
    inside = samples["time_s"].between(begin_s - _MARGIN_S, end_s + _MARGIN_S)
    return samples[inside].reset_index(drop=True) if inside.any() else samples


def _lines(path: Path | None, problems: list[str]) -> tuple[dict[str, Any], ...]:
    if path is None:
        return ()
    rows = []
    for number, line in enumerate(_text(path, problems).splitlines(), 1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            problems.append(f"{path.name}: line {number} is damaged and was left out.")
    return tuple(rows)


def _findings(path: Path | None, problems: list[str]) -> tuple[dict[str, Any], ...]:
    values = _json(path, problems)
    found = values.get("findings") if isinstance(values, dict) else values
    return tuple(value for value in found if isinstance(value, dict)) if isinstance(found, list) else ()


def _objects(paths: tuple[Path, ...], problems: list[str]) -> tuple[dict[str, Any], ...]:
    """A JSON object of each file."""
    values = [_json(path, problems) for path in paths]
    return tuple(value for value in values if isinstance(value, dict))


def _processes(described: tuple[dict[str, Any], ...], events: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    """Those of this run, the first rank first; all of them where there is no event."""
    own = set(zip(events["node"], events["pid"], strict=True))
    chosen = [one for one in described if not own or (one.get("node"), one.get("pid")) in own]
    return tuple(sorted(chosen, key=lambda one: one.get("rank") or 0))


def _json(path: Path | None, problems: list[str]) -> Any:
    if path is None:
        return None
    try:
        return json.loads(_text(path, problems) or "null")
    except ValueError:
        problems.append(f"{path.name} is cut off or damaged and was left out.")
        return None


def _text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
        return ""
