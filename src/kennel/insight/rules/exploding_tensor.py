"""ExplodingTensor: values that are infinite or no numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.rules.base import Rule
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import TensorChoice, parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters(TensorChoice):
    only_nan: bool = parameter(False, "look for NaN only, not for infinite values")


class ExplodingTensor(Rule):
    """Fires when a tensor has a NaN, or an infinite value unless `only_nan`.

    Of reductions: a NaN anywhere makes mean, minimum and maximum NaN, an infinite value the mean not finite.
    Source: SageMaker developer guide, "List of Debugger built-in rules", ExplodingTensor.
    """

    Parameters = _Parameters
    needs = "turn on any collection, such as losses or gradients"

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge every tensor of the step, or those that are chosen."""
        names = self.trial.names(step, collections=self.p.collection_names, regexes=self.p.tensor_regex)
        for tensor in names:
            worst = self._worst(tensor, step)
            if worst is None:
                continue
            self.datapoints += 1
            if math.isnan(worst) or (math.isinf(worst) and not self.p.only_nan):
                advice = "Lower lr, raise warmup_epochs, set clip_norm=1, or precision=fp32 where it is fp16."
                yield self.found(step, tensor, worst, math.inf, f"{tensor} has the value {worst}.", advice)

    def _worst(self, tensor: str, step: Step) -> float | None:
        mean = self.trial.reduction(tensor, step, "mean")
        if mean is not None and math.isfinite(mean):
            return mean
        value = self.trial.value(tensor, step)
        if value is not None and np.issubdtype(value.dtype, np.number):
            return math.nan if np.isnan(value).any() else math.inf
        largest = self.trial.reduction(tensor, step, "max")  # a mean of -inf and inf is NaN, too
        return mean if largest is None or math.isnan(largest) else math.inf
