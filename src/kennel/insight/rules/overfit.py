"""Overfit: a validation loss that is far above the training loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kennel.insight.rules.base import Rule
from kennel.insight.rules.losses import Pass, Passes
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters:
    tensor_regex: tuple[str, ...] = parameter((), "names of the losses; none: the collection losses")
    start_step: int = parameter(0, "the training step from which on losses are compared")
    patience: int = parameter(1, "consecutive validations with too large a gap")
    ratio_threshold: float = parameter(0.1, "largest gap, as a share of the training loss")


class Overfit(Rule):
    """Fires when (validation loss - training loss) / training loss is above `ratio_threshold` in `patience` consecutive
    validations.

    The validation loss is the mean of a whole validation, the training loss that of the steps since the one before.
    Source: SageMaker developer guide, "List of Debugger built-in rules", Overfit.
    """

    Parameters = _Parameters
    needs = "turn on collection losses for TRAIN and EVAL, and validate with the hook in mode EVAL"

    def start(self) -> None:
        """Begin with no validation."""
        self._passes, self._in_a_row = Passes(self.trial, self.p.tensor_regex), 0

    def look(self, step: Step) -> Iterator[Finding]:
        """Take the step's loss, and judge the validation that it ends."""
        if step.mode == "TRAIN" and step.mode_step < self.p.start_step:
            return
        for one in self._passes.add(step):
            yield from self._judge(one)

    def finish(self) -> Iterator[Finding]:
        """Judge the last validation."""
        for one in self._passes.end():
            yield from self._judge(one)

    def _judge(self, one: Pass) -> Iterator[Finding]:
        if not one.train:
            return
        self.datapoints += 1
        ratio = (one.validation - one.train) / one.train
        self._in_a_row = self._in_a_row + 1 if ratio > self.p.ratio_threshold else 0
        if self._in_a_row >= self.p.patience and self._in_a_row:
            sentence = (
                f"The validation loss ({one.validation:.4g}) is {100 * ratio:.0f} % above the training loss "
                f"({one.train:.4g}), in {self._in_a_row} consecutive validations."
            )
            advice = (
                "Raise weight_decay, label_smoothing or mixup, set augment=trivialaugment, train fewer layers "
                "(train_layers=head), or stop earlier (patience=3)."
            )
            yield self.found(one.step, "", ratio, self.p.ratio_threshold, sentence, advice)
