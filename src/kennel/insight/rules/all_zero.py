"""AllZero: tensors of zeros."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kennel.insight.rules.base import Rule
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import TensorChoice, parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters(TensorChoice):
    threshold: float = parameter(100.0, "per cent of a tensor's values that may be zero, itself not included")


class AllZero(Rule):
    """Fires when `threshold` % of a tensor's values, or more, are zero.

    Of reductions only 100 % shows: minimum and maximum are both zero.
    Source: SageMaker developer guide, "List of Debugger built-in rules", AllZero.
    """

    Parameters = _Parameters
    needs = "turn on the collections that collection_names names; a threshold below 100 needs whole tensors"

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge the chosen tensors, all of the step where none is chosen."""
        for tensor in self.trial.names(step, collections=self.p.collection_names, regexes=self.p.tensor_regex):
            zeros = self._zeros(tensor, step)
            if zeros is None:
                continue
            self.datapoints += 1
            if zeros >= self.p.threshold:
                sentence = f"{zeros:.0f} % of the values of {tensor} are zero."
                advice = (
                    "Lower lr, or look whether train_layers freezes what leads there; a dead layer passes no gradient."
                )
                yield self.found(step, tensor, zeros, self.p.threshold, sentence, advice)

    def _zeros(self, tensor: str, step: Step) -> float | None:
        value = self.trial.value(tensor, step)
        if value is not None:
            return float(100 * (value == 0).mean())
        low, high = self.trial.reduction(tensor, step, "min"), self.trial.reduction(tensor, step, "max")
        if low is None or high is None:
            return None
        if low == high == 0:
            return 100.0
        return 0.0 if self.p.threshold >= 100 else None
