"""Thousands of steps and samples as the few hundred points that a chart can show."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kennel.insight.profile.reading import phases, system

_POINTS = 240


def steps_binned(steps: pd.DataFrame, points: int = _POINTS) -> pd.DataFrame:
    """Means by step number: columns first, last, duration_s, median_s, min_s, max_s, start_s and the parts.

    Bins are equally many steps wide; a run of fewer steps than `points` has a bin a step.
    """
    first, last = int(steps["step"].min()), int(steps["step"].max())
    width = max(1, -(-(last - first + 1) // points))
    number = (steps["step"] - first) // width
    grouped = steps.groupby(number)
    made = grouped[["duration_s", *phases.STEP_PARTS]].mean()
    made["first"] = first + made.index * width
    made["last"] = np.minimum(made["first"] + width - 1, last)
    made["start_s"], made["min_s"] = grouped["start_s"].min(), grouped["duration_s"].min()
    made["median_s"], made["max_s"] = grouped["duration_s"].median(), grouped["duration_s"].max()
    return made.reset_index(drop=True)


def usage_binned(samples: pd.DataFrame, names: dict[str, str], points: int = _POINTS) -> pd.DataFrame:
    """Metrics over time: columns time_s, node, name, value (mean in the bin, over devices).

    Args:
        samples: system.COLUMNS.
        names: metric -> name, in their order.
        points: bins of time.
    """
    frames = []
    for metric, name in names.items():
        moments = system.per_moment(samples, metric)
        if len(moments):
            frames.append(moments.assign(name=name))
    if not frames:
        return pd.DataFrame(columns=["time_s", "node", "name", "value"])
    every = pd.concat(frames, ignore_index=True)
    begin_s, end_s = every["time_s"].min(), every["time_s"].max()
    width_s = max((end_s - begin_s) / points, 1e-3)
    bins = ((every["time_s"] - begin_s) // width_s).astype(int)
    made = every.assign(time_s=begin_s + (bins + 0.5) * width_s)
    return made.groupby(["time_s", "node", "name"], as_index=False, sort=True)["value"].mean()


def histogram(values: pd.Series[float], bins: int = 40) -> pd.DataFrame:
    """Counts between equal borders, the last bin holding all beyond the 99.5th percentile: columns from, to, count."""
    top = float(values.quantile(0.995))
    bottom = float(values.min())
    if top <= bottom:
        top = bottom * 1.01 + 1e-6
    counts, borders = np.histogram(values.clip(upper=top), bins=bins, range=(bottom, top))
    return pd.DataFrame({"from": borders[:-1], "to": borders[1:], "count": counts})
