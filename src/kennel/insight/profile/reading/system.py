"""System metrics in SageMaker's `system/incremental` layout: one JSON object a line, as one table of samples.

A line is `{"Timestamp": s, "NodeId": "algo-1", "Type": "cpu", "Name": "cpu0", "Dimension": "CPUUtilization",
"Value": percent}`. Memory, I/O and network carry the metric in `Name`; `Dimension` is empty or says who
moved the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from kennel.insight.profile.reading.timeline import Reading

CPU, IO_WAIT, MEMORY = "CPUUtilization", "I/OWaitPercentage", "MemoryUsedPercent"
GPU, GPU_MEMORY, GPU_POWER = "GPUUtilization", "GPUMemoryUtilization", "GPUPowerWatts"
CONTAINER_CPU = "ContainerCPUUtilization"  # of what the container may use; the machine's neighbours not included
COLUMNS = ("node", "time_s", "metric", "device", "value")
_BY_DIMENSION = {
    CPU,
    IO_WAIT,
    CONTAINER_CPU,
    GPU,
    GPU_MEMORY,
    GPU_POWER,
}  # the metric is the Dimension, the device is the Name


def read_system(paths: Iterable[Path]) -> Reading:
    """All samples of all files, in the order of time."""
    rows: list[tuple[Any, ...]] = []
    problems: list[str] = []
    for path in paths:
        lost = 0
        for line in _lines(path, problems):
            row = _row(line)
            if row:
                rows.append(row)
            else:
                lost += 1
        if lost:
            problems.append(f"{path.name}: {lost} lines are cut off or damaged and were left out.")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Reading(table.sort_values("time_s", kind="stable", ignore_index=True), tuple(problems))


def _lines(path: Path, problems: list[str]) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
        return []
    return [line for line in text.splitlines() if line.strip()]


def _row(line: str) -> tuple[Any, ...] | None:
    try:
        sample = json.loads(line)
        name, dimension = str(sample.get("Name") or ""), str(sample.get("Dimension") or "")
        metric, device = (dimension, name) if dimension in _BY_DIMENSION else (name or dimension, dimension)
        return str(sample["NodeId"]), float(sample["Timestamp"]), metric, device, float(sample["Value"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def per_moment(samples: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric of a node at each moment, the mean over its devices: columns node, time_s, value."""
    chosen = samples[samples["metric"] == metric]
    return chosen.groupby(["node", "time_s"], as_index=False, sort=True)["value"].mean()


def devices(samples: pd.DataFrame, metric: str) -> dict[str, list[str]]:
    """The devices that a metric was recorded of, by node."""
    chosen = samples[samples["metric"] == metric][["node", "device"]].drop_duplicates()
    return {str(node): sorted(group["device"]) for node, group in chosen.groupby("node")}
