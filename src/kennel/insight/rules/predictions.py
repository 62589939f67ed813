"""Labels and predictions of batches, as class numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kennel.insight.tensors.events import Array
from kennel.insight.tensors.trial import Step, Trial

Pair = tuple[Array, Array]


def pair_at(
    trial: Trial, step: Step, labels: Iterable[str], predictions: Iterable[str], *, argmax: bool
) -> Pair | None:
    """The class numbers (N,) of labels and predictions saved at a step; None where either is missing.

    Args:
        trial: the run.
        step: one of its steps.
        labels: regular expressions of the labels' name.
        predictions: the same for the predictions.
        argmax: predictions (N, classes) are scores, of which the highest counts.
    """
    wanted, given = (_first(trial, step, regexes) for regexes in (labels, predictions))
    if wanted is None or given is None:
        return None
    if given.ndim == 2 and (argmax or given.shape[1] > 1):
        given = given.argmax(axis=1)
    wanted, given = wanted.reshape(-1).astype(np.int64), given.reshape(-1).astype(np.int64)
    return (wanted, given) if len(wanted) == len(given) else None


def _first(trial: Trial, step: Step, regexes: Iterable[str]) -> Array | None:
    for name in trial.names(step, regexes=regexes):
        value = trial.value(name, step)
        if value is not None:
            return value
    return None


def confusion(labels: Array, predictions: Array, classes: int) -> Array:
    """Counts (classes, classes): rows are labels, columns predictions; pairs with other numbers are left out."""
    known = (labels >= 0) & (labels < classes) & (predictions >= 0) & (predictions < classes)
    flat = labels[known] * classes + predictions[known]
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)
