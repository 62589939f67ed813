"""SaturatedActivation: tanh and sigmoid layers so far out that no gradient comes through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.rules.base import Rule, is_learning
from kennel.insight.rules.nodes import activities, idle_share
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters:
    collection_names: tuple[str, ...] = parameter((), "collections to look at")
    tensor_regex: tuple[str, ...] = parameter((".*tanh_input", ".*sigmoid_input"), "names of whole inputs")
    threshold_tanh: tuple[float, float] = parameter((-9.4999, 9.4999), "inputs between which tanh is not saturated")
    threshold_sigmoid: tuple[float, float] = parameter((-23.0, 16.99999), "inputs between which sigmoid is not")
    threshold_inactivity: float = parameter(1.0, "a node is saturated when fewer per cent of its inputs are between")
    threshold_layer: float = parameter(50.0, "per cent of a layer's nodes that may be saturated")


class SaturatedActivation(Rule):
    """Fires when more than `threshold_layer` % of a layer's nodes are saturated: less than `threshold_inactivity` % of
    their inputs lie where the gradient of tanh or sigmoid is above 1e-7.

    Kennel's hook counts with the default thresholds; others need the inputs themselves.
    Source: SageMaker developer guide, "List of Debugger built-in rules", SaturatedActivation.
    """

    Parameters = _Parameters
    needs = "the network has no Tanh or Sigmoid module, or turn on a collection with include_regex .*tanh_input"

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge every layer."""
        if not is_learning(step):
            return
        for kind, (low, high) in (("tanh", self.p.threshold_tanh), ("sigmoid", self.p.threshold_sigmoid)):
            for layer, active in activities(self.trial, step, kind, self._regexes(kind), _between(low, high)):
                self.datapoints += 1
                share = idle_share(active, self.p.threshold_inactivity)
                if share > self.p.threshold_layer:
                    sentence = f"{share:.0f} % of the {len(active)} nodes of {layer} ({kind}) are saturated."
                    advice = "Lower lr, raise weight_decay, or start from other weights (pretrained, seed)."
                    yield self.found(step, layer, share, self.p.threshold_layer, sentence, advice)

    def _regexes(self, kind: str) -> tuple[str, ...]:
        return tuple(regex for regex in self.p.tensor_regex if kind in regex)


def _between(low: float, high: float):  # type: ignore[no-untyped-def]  # a function of arrays
    return lambda nodes: np.logical_and(nodes > low, nodes < high)
