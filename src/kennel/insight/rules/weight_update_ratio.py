"""WeightUpdateRatio: updates that are large or small beside the weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.rules.base import Rule, is_learning
from kennel.insight.tensors.events import Array
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step

_SAMPLE = "sample/"


@dataclass(frozen=True)
class _Parameters:
    num_steps: int = parameter(
        0, "compare with the oldest saved step at most so many before; 0: with the last saved one"
    )
    large_threshold: float = parameter(10.0, "largest ratio")
    small_threshold: float = parameter(1e-8, "smallest ratio")
    epsilon: float = parameter(1e-9, "added to the weights' norm, so that nothing is divided by zero")


class WeightUpdateRatio(Rule):
    """Fires when |w(s) - w(before)| / (|w(before)| + epsilon) of a weight tensor is above `large_threshold` or below
    `small_threshold`; |.| is the L2 norm.

    Of Kennel's default hook it judges `sample/NAME`, some hundred values of each weight that is trained; of whole
    tensors those whose gradients are saved, where any are, because frozen ones do not change on purpose.
    Source: SageMaker developer guide, "List of Debugger built-in rules", WeightUpdateRatio.
    """

    Parameters = _Parameters
    needs = "turn on collection weights, at two steps at least"

    def start(self) -> None:
        """Remember the last values of each weight, with their steps."""
        self._past: dict[str, list[tuple[int, Array]]] = defaultdict(list)

    def look(self, step: Step) -> Iterator[Finding]:
        """Compare every weight with what it was."""
        if not is_learning(step):
            return
        for tensor in self._weights(step):
            now = self.trial.value(tensor, step)
            if now is None:
                continue
            past = self._past[tensor]
            if past:
                yield from self._judge(tensor.removeprefix(_SAMPLE), step, past[0][1], now)
            past.append((step.mode_step, now))
            while len(past) > 1 and past[0][0] < step.mode_step - self.p.num_steps + 1:
                past.pop(0)

    def _weights(self, step: Step) -> list[str]:
        samples = self.trial.names(step, regexes=(f"^{_SAMPLE}",))
        if samples:
            return samples
        weights = self.trial.names(step, collections=("weights",))
        trained = {name.removeprefix("gradient/") for name in self.trial.names(step, collections=("gradients",))}
        return [name for name in weights if not trained or name in trained]

    def _judge(self, tensor: str, step: Step, then: Array, now: Array) -> Iterator[Finding]:
        if then.shape != now.shape:
            return
        ratio = float(np.linalg.norm(now - then) / (np.linalg.norm(then) + self.p.epsilon))
        self.datapoints += 1
        if ratio > self.p.large_threshold:
            sentence = f"{tensor} has changed by {ratio:.3g} times its size, more than {self.p.large_threshold:.3g}."
            yield self.found(step, tensor, ratio, self.p.large_threshold, sentence, "Lower lr, or set clip_norm=1.")
        elif ratio < self.p.small_threshold:
            sentence = f"{tensor} has changed by {ratio:.3g} of its size, less than {self.p.small_threshold:.3g}."
            yield self.found(step, tensor, ratio, self.p.small_threshold, sentence, "Raise lr or backbone_lr_factor.")
