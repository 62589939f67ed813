"""VanishingGradient: gradients so small that a layer does not learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kennel.insight.rules.base import Rule, is_learning
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters:
    threshold: float = parameter(1e-7, "smallest mean of absolute gradients")


class VanishingGradient(Rule):
    """Fires when mean(|gradient|) of a tensor is below `threshold`.

    Gradients of biases are left out: in front of a batch normalisation they are zero by construction.
    Source: SageMaker developer guide, "List of Debugger built-in rules", VanishingGradient.
    """

    Parameters = _Parameters
    needs = "turn on collection gradients"

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge every gradient of the step."""
        if not is_learning(step):
            return
        for tensor in self.trial.names(step, collections=("gradients",)):
            mean = None if tensor.endswith("bias") else self.trial.reduction(tensor, step, "mean", absolute=True)
            if mean is None:
                continue
            self.datapoints += 1
            if mean < self.p.threshold:
                sentence = f"The mean absolute gradient of {tensor} is {mean:.3g}, below {self.p.threshold:.3g}."
                advice = (
                    "Raise lr or backbone_lr_factor, start from pretrained weights (pretrained=auto), or use "
                    "another arch: one with batch normalisation and residual connections."
                )
                yield self.found(step, tensor, mean, self.p.threshold, sentence, advice)
