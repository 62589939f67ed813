"""Overtraining: epochs after the best one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kennel.insight.rules.base import Rule
from kennel.insight.rules.losses import Pass, Passes
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters:
    patience_train: int = parameter(5, "validations after which the training loss counts as no longer improving")
    patience_validation: int = parameter(10, "validations after which the validation loss counts as such")
    delta: float = parameter(
        0.01, "a loss improves when it is lower by more than this", documented="0.1 in older editions"
    )


@dataclass
class _Best:
    """The lowest loss, and how many validations ago it was."""

    loss: float = math.inf
    ago: int = 0

    def take(self, loss: float, delta: float) -> None:
        self.loss, self.ago = (loss, 0) if loss < self.loss - delta else (self.loss, self.ago + 1)


class Overtraining(Rule):
    """Fires when the validation loss has not improved by more than `delta` for `patience_validation` validations.

    Whether the training loss has improved within `patience_train` validations tells overfitting from a training that
    has converged. AWS counts steps; here a step is a whole validation with the training before it.
    Source: SageMaker developer guide, "List of Debugger built-in rules", Overtraining.
    """

    Parameters = _Parameters
    needs = "turn on collection losses for TRAIN and EVAL, and validate with the hook in mode EVAL"

    def start(self) -> None:
        """Begin with no validation."""
        self._passes, self._train, self._validation = Passes(self.trial), _Best(), _Best()

    def look(self, step: Step) -> Iterator[Finding]:
        """Take the step's loss, and judge the validation that it ends."""
        for one in self._passes.add(step):
            yield from self._judge(one)

    def finish(self) -> Iterator[Finding]:
        """Judge the last validation."""
        for one in self._passes.end():
            yield from self._judge(one)

    def _judge(self, one: Pass) -> Iterator[Finding]:
        self.datapoints += 1
        self._validation.take(one.validation, self.p.delta)
        if one.train is not None:
            self._train.take(one.train, self.p.delta)
        if self._validation.ago < self.p.patience_validation:
            return
        learning = one.train is not None and self._train.ago < self.p.patience_train
        end = "while the training loss goes on falling" if learning else "and the training loss has converged, too"
        sentence = (
            f"The validation loss has not improved on {self._validation.loss:.4g} for {self._validation.ago} "
            f"validations, {end}."
        )
        advice = (
            f"Stop earlier: epochs lower by {self._validation.ago}, or patience={self.p.patience_validation}"
            f"{'; weight_decay or augment=trivialaugment keep it from learning by heart' if learning else ''}."
        )
        yield self.found(one.step, "", float(self._validation.ago), float(self.p.patience_validation), sentence, advice)
