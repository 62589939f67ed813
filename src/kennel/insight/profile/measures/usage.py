"""How much of its machines a run used: the percentiles of AWS's report, for every node and metric."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kennel.insight.profile.reading import system

NAMES = {  # metric -> as the report calls it, and the unit
    system.CPU: ("CPU", "%"),
    system.CONTAINER_CPU: ("CPU of the container", "%"),
    system.GPU: ("GPU", "%"),
    system.MEMORY: ("memory", "%"),
    system.GPU_MEMORY: ("GPU memory", "%"),
    system.IO_WAIT: ("I/O wait", "%"),
    "ReceiveBytesPerSecond": ("network in", "bytes/s"),
    "TransmitBytesPerSecond": ("network out", "bytes/s"),
    "ReadThroughputInBytesPerSecond": ("disk read", "bytes/s"),
    "WriteThroughputInBytesPerSecond": ("disk write", "bytes/s"),
    "IOPS": ("disk operations", "/s"),
    system.GPU_POWER: ("GPU power", "W"),
}


@dataclass(frozen=True)
class Usage:
    """A metric of a node over the whole run; the mean over devices at each moment."""

    node: str
    metric: str
    unit: str
    max: float
    p99: float
    p95: float
    p50: float
    min: float
    samples: int


def summary(samples: pd.DataFrame) -> list[Usage]:
    """Percentiles for every node, in the order of NAMES; metrics that nobody recorded are left out."""
    rows: list[Usage] = []
    for metric, (name, unit) in NAMES.items():
        for node, group in system.per_moment(samples, metric).groupby("node"):
            values = group["value"]
            quantiles = [float(values.quantile(q)) for q in (1.0, 0.99, 0.95, 0.5, 0.0)]
            top, p99, p95, p50, bottom = quantiles
            rows.append(Usage(str(node), name, unit, top, p99, p95, p50, bottom, len(values)))
    return rows


def mean(samples: pd.DataFrame, metric: str, begin_s: float | None = None, end_s: float | None = None) -> float | None:
    """The mean of a metric over nodes, devices and a span of time; None where it was not recorded."""
    chosen = samples[samples["metric"] == metric]
    if begin_s is not None and end_s is not None:
        chosen = chosen[chosen["time_s"].between(begin_s, end_s)]
    return float(chosen["value"].mean()) if len(chosen) else None
