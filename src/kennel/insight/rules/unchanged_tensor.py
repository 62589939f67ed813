"""UnchangedTensor: values that stay as they are."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.rules.base import Rule
from kennel.insight.tensors.events import Array
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import TensorChoice, parameter
from kennel.insight.tensors.trial import Step

_REDUCTIONS = (("min", False), ("max", False), ("mean", False), ("mean", True), ("l2", False))


@dataclass(frozen=True)
class _Parameters(TensorChoice):
    num_steps: int = parameter(3, "saved steps that are compared with each other")
    rtol: float = parameter(1e-5, "relative tolerance of numpy.allclose")
    atol: float = parameter(1e-8, "absolute tolerance of numpy.allclose")
    equal_nan: bool = parameter(False, "whether two NaN count as the same")


class UnchangedTensor(Rule):
    """Fires when numpy.allclose holds between the newest value of a tensor and each of the `num_steps` - 1 before it.

    Of tensors of which only reductions are saved, the reductions are compared.
    Source: SageMaker developer guide, "List of Debugger built-in rules", UnchangedTensor.
    """

    Parameters = _Parameters
    needs = "turn on the collections that collection_names names, at num_steps steps at least"

    def start(self) -> None:
        """Remember the last values of each tensor, by mode."""
        kept = max(1, self.p.num_steps - 1)
        self._past: dict[tuple[str, str], deque[Array]] = defaultdict(lambda: deque(maxlen=kept))

    def look(self, step: Step) -> Iterator[Finding]:
        """Compare the chosen tensors, all of the step where none is chosen."""
        for tensor in self.trial.names(step, collections=self.p.collection_names, regexes=self.p.tensor_regex):
            now = self._value(tensor, step)
            if now is None:
                continue
            past = self._past[step.mode, tensor]
            if len(past) == past.maxlen:
                self.datapoints += 1
                if all(self._same(now, then) for then in past):
                    sentence = f"{tensor} has not changed over {self.p.num_steps} saved steps."
                    advice = "Raise lr, or look whether train_layers freezes it."
                    yield self.found(step, tensor, 0.0, self.p.rtol, sentence, advice)
            past.append(now)

    def _value(self, tensor: str, step: Step) -> Array | None:
        value = self.trial.value(tensor, step)
        if value is not None:
            return value
        found = [self.trial.reduction(tensor, step, name, absolute=absolute) for name, absolute in _REDUCTIONS]
        known = [one for one in found if one is not None]
        return np.array(known) if known else None

    def _same(self, now: Array, then: Array) -> bool:
        return now.shape == then.shape and bool(
            np.allclose(now, then, rtol=self.p.rtol, atol=self.p.atol, equal_nan=self.p.equal_nan)
        )
