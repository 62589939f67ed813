"""How evenly the work is spread over GPUs, or over training processes where there are none."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from kennel.insight.profile.reading import phases, system
from kennel.insight.profile.reading.run import Run

_BINS = 10  # of 10 percentage points each


@dataclass(frozen=True)
class Balance:
    """Histograms of how busy each worker was, in shares of its samples, and the largest distance of two of them."""

    unit: str  # what a worker is
    histograms: dict[str, list[float]]
    means: dict[str, float]  # percent busy
    distance: float  # 0: the same, 1: nothing in common (half the sum of differences: total variation distance)
    pair: tuple[str, str] | None
    datapoints: int


def measure(run: Run, steps: pd.DataFrame) -> Balance | None:
    """The balance between GPUs; without GPUs between training processes, busy being all but waiting for data.

    None where there are not two of them.
    """
    unit, busy = "GPU", _by_gpu(run)
    if not busy:
        unit, busy = "training process", _by_process(steps)
    if len(busy) < 2:
        return None
    histograms = {name: _histogram(values) for name, values in busy.items()}
    pairs = {
        (a, b): float(np.abs(histograms[a] - histograms[b]).sum() / 2) for a, b in itertools.combinations(histograms, 2)
    }
    pair = max(pairs, key=lambda key: pairs[key])
    return Balance(
        unit,
        {name: [float(x) for x in values] for name, values in histograms.items()},
        {name: float(values.mean()) for name, values in busy.items()},
        pairs[pair],
        pair,
        min(len(values) for values in busy.values()),
    )


def _by_gpu(run: Run) -> dict[str, npt.NDArray[np.float64]]:
    chosen = run.samples[run.samples["metric"] == system.GPU]
    return {
        f"{node} {device}": group["value"].to_numpy(float)
        for (node, device), group in chosen.groupby(["node", "device"])
    }


def _by_process(steps: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    own = steps[steps["duration_s"] > 0]
    busy = 100.0 * (1.0 - own[phases.DATA] / own["duration_s"])
    return {str(worker): busy[group.index].to_numpy(float) for worker, group in own.groupby("worker")}


def _histogram(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    counts, _ = np.histogram(np.clip(values, 0, 100), bins=_BINS, range=(0, 100))
    shares: npt.NDArray[np.float64] = counts / max(1, counts.sum())
    return shares
