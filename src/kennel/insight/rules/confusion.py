"""Confusion: classes that are taken for each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.rules.base import EVAL, Rule
from kennel.insight.rules.predictions import Pair, confusion, pair_at
from kennel.insight.tensors.events import Array
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters:
    category_no: int = parameter(0, "number of classes; 0: the highest that is seen", documented="the larger of both")
    labels: str = parameter("labels", "name of the labels")
    predictions: str = parameter("predictions", "name of the predictions")
    labels_collection: str = parameter("labels", "accepted; the name decides")
    predictions_collection: str = parameter("predictions", "accepted; the name decides")
    min_diag: float = parameter(0.9, "smallest share of a predicted class that is right")
    max_off_diag: float = parameter(0.1, "largest share of a predicted class that is one other class")


class Confusion(Rule):
    """Fires when confusion[i][i] / sum_j confusion[j][i] is below `min_diag`, or
    confusion[j][i] / sum_j confusion[j][i] above `max_off_diag`; confusion[label][prediction] counts the images of the
    last validation.

    Judged at the end, when the matrix is complete. For the diagonal the developer guide prints another denominator, the
    sum of the diagonal, under which no matrix of two classes could pass; the column's sum is what it prints elsewhere.
    Source: SageMaker developer guide, "List of Debugger built-in rules", Confusion.
    """

    Parameters = _Parameters
    needs = "save tensors named labels and predictions (Kennel's trainer does, but with mixup or cutmix)"

    def start(self) -> None:
        """Begin without pairs."""
        self._pairs: list[Pair] = []
        self._last: Step | None = None  # the last one with labels
        self._was_validated = False

    def look(self, step: Step) -> Iterator[Finding]:
        """Count the step's pairs; a validation that begins forgets the one before."""
        names = [rf"(^|.*/){re.escape(name)}$" for name in (self.p.labels, self.p.predictions)]
        pair = pair_at(self.trial, step, names[:1], names[1:], argmax=True)
        if pair is None:
            return iter(())
        if step.mode == EVAL or not self._was_validated:
            if step.mode == EVAL and self._last is not None and self._last.mode != EVAL:
                self._pairs.clear()
            self._pairs.append(pair)
        self._last = step
        self._was_validated = self._was_validated or step.mode == EVAL
        return iter(())

    def finish(self) -> Iterator[Finding]:
        """Judge the matrix."""
        if not self._pairs or self._last is None:
            return
        labels, predictions = (np.concatenate(side) for side in zip(*self._pairs, strict=True))
        classes = self.p.category_no or int(max(labels.max(initial=0), predictions.max(initial=0))) + 1
        counts = confusion(labels, predictions, classes)
        for predicted in range(classes):
            column = counts[:, predicted]
            if column.sum():
                self.datapoints += 1
                yield from self._judge(self._last, predicted, column / column.sum(), int(column.sum()))

    def _judge(self, step: Step, predicted: int, shares: Array, images: int) -> Iterator[Finding]:
        others = np.where(np.arange(len(shares)) == predicted, 0.0, shares)
        worst = int(others.argmax())
        said = f"Of {images} images predicted as class {predicted}"
        advice = "Collect or check images of these classes; a larger crop_px or arch tells finer differences."
        if others[worst] > self.p.max_off_diag:
            sentence = f"{said}, {100 * others[worst]:.0f} % are of class {worst}."
            yield self.found(step, "predictions", float(others[worst]), self.p.max_off_diag, sentence, advice)
        elif shares[predicted] < self.p.min_diag:
            sentence = f"{said}, {100 * shares[predicted]:.0f} % are of that class."
            yield self.found(step, "predictions", float(shares[predicted]), self.p.min_diag, sentence, advice)
