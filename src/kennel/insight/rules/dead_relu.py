"""DeadRelu: rectifiers that pass nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kennel.insight.rules.base import Rule, is_learning
from kennel.insight.rules.nodes import activities, idle_share
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters:
    tensor_regex: tuple[str, ...] = parameter((".*relu_output",), "names of whole outputs of rectifiers")
    threshold_inactivity: float = parameter(1.0, "a node is dead when fewer per cent of its outputs are positive")
    threshold_layer: float = parameter(50.0, "per cent of a layer's nodes that may be dead")


class DeadRelu(Rule):
    """Fires when more than `threshold_layer` % of a layer's nodes have less than `threshold_inactivity` % of their
    outputs above zero.

    Source: SageMaker developer guide, "List of Debugger built-in rules", DeadRelu. Kennel's hook finds rectifiers by
    their type, whatever their names.
    """

    Parameters = _Parameters
    needs = "the network has no ReLU module, or turn on collection relu_output (include_regex .*relu_output)"

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge every layer."""
        if not is_learning(step):
            return
        for layer, active in activities(self.trial, step, "relu", self.p.tensor_regex, lambda nodes: nodes > 0):
            self.datapoints += 1
            dead = idle_share(active, self.p.threshold_inactivity)
            if dead > self.p.threshold_layer:
                sentence = f"{dead:.0f} % of the {len(active)} nodes of {layer} are dead: their outputs are zero."
                advice = "Lower lr or raise warmup_epochs: one large step can push all inputs below zero for good."
                yield self.found(step, layer, dead, self.p.threshold_layer, sentence, advice)
