"""Published test functions of optimization, as what a fake trainer measures; both are to be minimized.

Source: Surjanovic and Bingham, "Virtual Library of Simulation Experiments: Test Functions and Datasets", Branin and
Hartmann 6-dimensional.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_ALPHA = (1.0, 1.2, 3.0, 3.2)
_A = (
    (10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14),
)  # fmt: skip
_P = (
    (1312, 1696, 5569, 124, 8283, 5886), (2329, 4135, 8307, 3736, 1004, 9991), (2348, 1451, 3522, 2883, 3047, 6650),
    (4047, 8828, 8732, 5743, 1091, 381),
)  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A function of named hyperparameters."""

    name: str
    ranges: Mapping[str, tuple[float, float]]
    minimum: float
    value: Callable[[Mapping[str, float]], float]

    def parameter_ranges(self) -> dict[str, list[dict[str, str]]]:
        """ParameterRanges of a tuning job that searches it."""
        return {
            "ContinuousParameterRanges": [
                {"Name": name, "MinValue": repr(low), "MaxValue": repr(high), "ScalingType": "Linear"}
                for name, (low, high) in self.ranges.items()
            ]
        }


def branin(at: Mapping[str, float]) -> float:
    """Two dimensions, three minima of 0.397887."""
    x, y = at["x1"], at["x2"]
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann6(at: Mapping[str, float]) -> float:
    """Six dimensions, one minimum of -3.32237 among six."""
    point = [at[f"x{number}"] for number in range(1, 7)]
    return -sum(
        alpha * math.exp(-sum(a * (x - p / 10_000) ** 2 for a, x, p in zip(row, point, places, strict=True)))
        for alpha, row, places in zip(_ALPHA, _A, _P, strict=True)
    )


BRANIN = Function("Branin", {"x1": (-5.0, 10.0), "x2": (0.0, 15.0)}, 0.397887, branin)
HARTMANN6 = Function("Hartmann-6", {f"x{number}": (0.0, 1.0) for number in range(1, 7)}, -3.32237, hartmann6)
