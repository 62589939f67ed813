"""What is counted of trials, and SageMaker's rules about them."""

from __future__ import annotations

from typing import Any

import pytest

from kennel.emulator.tuning.status import best_of, is_hopeless, not_improving

pytestmark = pytest.mark.pure


def trial(value: float | None, ended: float = 0.0) -> dict[str, Any]:
    if value is None:
        return {"TrainingJobStatus": "Failed", "ObjectiveStatus": "Failed", "TrainingEndTime": ended}
    final = {"MetricName": "m", "Value": value}
    return {
        "TrainingJobStatus": "Completed",
        "ObjectiveStatus": "Succeeded",
        "TrainingEndTime": ended,
        "FinalHyperParameterTuningJobObjectiveMetric": final,
    }


def trials(*values: float | None) -> list[dict[str, Any]]:
    return [trial(value, float(number)) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "maximize", "count"),
    [
        ((), True, 0),
        ((0.5,), True, 0),
        ((0.5, 0.6, 0.7), True, 0),
        ((0.5, 0.503, 0.501), True, 2),  # less than one per cent is none
        ((0.5, None, 0.4, 0.4, 0.9), True, 0),
        ((0.5, 0.4, None, 0.3), True, 2),
        ((0.5, 0.4, 0.3), False, 0),
        ((0.0, 0.0001), True, 0),  # of nothing, everything is an improvement
        ((-2.0, -1.0, -1.5), True, 1),
    ],
)
def test_an_improvement_is_one_per_cent(values: tuple[float | None, ...], maximize: bool, count: int) -> None:
    assert not_improving(trials(*values), maximize=maximize) == count


def test_improvements_go_by_the_time_of_the_end() -> None:
    shuffled = [trial(0.9, 5.0), trial(0.5, 1.0)]
    assert not_improving(shuffled, maximize=True) == 0


def test_the_first_of_equals_is_the_best() -> None:
    found = trials(None, 0.5, 0.7, 0.7, 0.1)
    assert best_of(found, maximize=True) is found[2]
    assert best_of(found, maximize=False) is found[4]
    assert best_of(trials(None), maximize=True) is None


def test_a_trial_is_hopeless_below_the_median_of_running_averages() -> None:
    """Running averages at epoch 2: 0.2, 0.3, 0.5; their median is 0.3."""
    previous = [[0.1, 0.3, 0.9], [0.2, 0.4], [0.4, 0.6, 0.6]]
    assert is_hopeless([0.9, 0.29], previous, maximize=True)
    assert not is_hopeless([0.0, 0.301], previous, maximize=True)
    assert is_hopeless([0.0, 0.32], previous, maximize=False)
    assert not is_hopeless([0.9, 0.29], previous, maximize=False)
    assert not is_hopeless([0.0, 0.0, 0.0], previous, maximize=True), "only two came as far"
    assert not is_hopeless([], previous, maximize=True)
