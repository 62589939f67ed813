"""How active the nodes of an activation layer are: a node is a channel of an image, or an element of a vector."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from kennel.insight.tensors.events import Array
from kennel.insight.tensors.trial import Step, Trial


def activities(
    trial: Trial, step: Step, kind: str, regexes: Sequence[str], is_active: Callable[[Array], Array]
) -> Iterator[tuple[str, Array]]:
    """Percentage of active values of each node, by layer.

    Kennel's hook saves it as `activity/KIND/LAYER`; whole tensors are judged here.

    Args:
        trial: the run.
        step: one of its steps.
        kind: relu, tanh or sigmoid.
        regexes: names of whole tensors (N, nodes, ...).
        is_active: which of a tensor's values are.
    """
    prefix = f"activity/{kind}/"
    saved = trial.names(step, regexes=(f"^{re.escape(prefix)}",))
    for name in saved:
        value = trial.value(name, step)
        if value is not None:
            yield name.removeprefix(prefix), 100 * np.atleast_1d(value)
    if saved:
        return
    for name in trial.names(step, regexes=regexes):
        value = trial.value(name, step)
        if value is not None and value.ndim >= 2:
            nodes = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1)
            yield name, 100 * is_active(nodes).mean(axis=1)


def idle_share(percent_active: Array, threshold_inactivity: float) -> float:
    """Percentage of a layer's nodes whose activity is below the threshold, in percent."""
    return float(100 * (percent_active < threshold_inactivity).mean())
