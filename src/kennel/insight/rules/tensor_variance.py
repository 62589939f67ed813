"""TensorVariance: variances outside of what was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kennel.insight.rules.base import Rule
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import TensorChoice, parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters(TensorChoice):
    max_threshold: float | None = parameter(None, "largest variance")
    min_threshold: float | None = parameter(None, "smallest variance")


class TensorVariance(Rule):
    """Fires when the variance of a tensor is above `max_threshold` or below `min_threshold`.

    Of weights Kennel's hook saves a sample of values, which the variance is taken of then.
    Source: SageMaker developer guide, "List of Debugger built-in rules", TensorVariance.
    """

    Parameters = _Parameters
    needs = "give max_threshold or min_threshold, and turn on a collection of whole tensors or with reduction variance"

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge the chosen tensors, all of the step where none is chosen."""
        high, low = self.p.max_threshold, self.p.min_threshold
        if high is None and low is None:
            return
        for tensor in self.trial.names(step, collections=self.p.collection_names, regexes=self.p.tensor_regex):
            variance = self.trial.spread(tensor, step)
            if variance is None or math.isnan(variance):
                continue
            self.datapoints += 1
            passed = high if high is not None and variance > high else None
            passed = low if passed is None and low is not None and variance < low else passed
            if passed is not None:
                side = "above" if variance > passed else "below"
                sentence = f"The variance of {tensor} is {variance:.3g}, {side} {passed:.3g}."
                advice = "Lower lr or set clip_norm." if side == "above" else "Raise lr, or lower weight_decay."
                yield self.found(step, tensor, variance, passed, sentence, advice)
