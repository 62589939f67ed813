"""ClassImbalance: classes that come too seldom, and are got wrong for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.rules.base import EVAL, Rule
from kennel.insight.rules.predictions import confusion, pair_at
from kennel.insight.tensors.events import Array
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step

_SAMPLES_A_CLASS = 50  # fewer differ by chance more than tenfold


@dataclass(frozen=True)
class _Parameters:
    threshold_imbalance: float = parameter(10.0, "largest ratio of the most to the least frequent class")
    threshold_misprediction: float = parameter(0.7, "largest share of a class that is predicted wrong")
    samples: int = parameter(
        500, "labels that are counted before anything is judged; 50 for each class where that is more"
    )
    argmax: bool = parameter(False, "predictions are scores of all classes")
    labels_regex: tuple[str, ...] = parameter((".*labels$",), "name of the labels", documented=".*labels")
    predictions_regex: tuple[str, ...] = parameter(
        (".*predictions$",), "of the predictions", documented=".*predictions"
    )


class ClassImbalance(Rule):
    """Fires when the most frequent training label comes more than `threshold_imbalance` times as often as the least
    frequent one, or more than `threshold_misprediction` of a class is predicted wrong in a validation while most of all
    images are predicted right.

    The second is judged on validation steps where there are any. A class that is seen in no label counts once it is
    predicted. Kennel's hook saves labels and predictions beside the losses.
    Source: SageMaker developer guide, "List of Debugger built-in rules", ClassImbalance.
    """

    Parameters = _Parameters
    needs = "save tensors named labels and predictions (Kennel's trainer does, but with mixup or cutmix)"

    def start(self) -> None:
        """Begin with empty matrices, which grow with the classes that are seen."""
        self._trained = self._validated = np.zeros((0, 0), dtype=np.int64)
        self._last: Step | None = None  # the last one with labels

    def look(self, step: Step) -> Iterator[Finding]:
        """Count the step's labels; judge once there are enough."""
        pair = pair_at(self.trial, step, self.p.labels_regex, self.p.predictions_regex, argmax=self.p.argmax)
        if pair is None:
            return
        was_validating, self._last = self._last is not None and self._last.mode == EVAL, step
        if step.mode == EVAL:
            if not was_validating:
                self._validated = np.zeros((0, 0), dtype=np.int64)  # of the weights as they were
            self._validated = _add(self._validated, *pair)
            return
        if was_validating:
            yield from self._misprediction(step, self._validated)
        self._trained = _add(self._trained, *pair)
        yield from self._imbalance(step)
        if not self._validated.size:
            yield from self._misprediction(step, self._trained)

    def lacking(self) -> str:
        """How many labels are missing, where there are some."""
        seen = int(self._trained.sum())
        missing = super().lacking()
        return f"not enough data: {seen} training labels of {self.p.samples} (samples)" if missing and seen else missing

    def finish(self) -> Iterator[Finding]:
        """Judge the last validation."""
        if self._last is not None and self._last.mode == EVAL:
            yield from self._misprediction(self._last, self._validated)

    def _imbalance(self, step: Step) -> Iterator[Finding]:
        counts = self._trained.sum(axis=1)
        if counts.sum() < max(self.p.samples, _SAMPLES_A_CLASS * np.count_nonzero(counts)):
            return
        self.datapoints += 1
        least, most = int(counts.argmin()), int(counts.argmax())
        ratio = float(counts[most] / counts[least]) if counts[least] else float("inf")
        if ratio > self.p.threshold_imbalance:
            sentence = (
                f"Class {most} has {counts[most]} of {counts.sum()} training labels, class {least} {counts[least]}."
            )
            advice = "Set class_weights=balanced or sampling=balanced, or collect more images of the rare classes."
            yield self.found(step, "labels", ratio, self.p.threshold_imbalance, sentence, advice)

    def _misprediction(self, step: Step, matrix: Array) -> Iterator[Finding]:
        counts, hits = matrix.sum(axis=1), matrix.diagonal()
        if self._trained.sum() < self.p.samples or not counts.sum():
            return
        self.datapoints += 1
        wrong = 1 - hits / np.maximum(counts, 1)
        present = counts >= max(1, counts.sum() // (20 * len(counts)))
        worst = int(np.where(present, wrong, 0).argmax())
        most_are_right = hits.sum() > counts.sum() / 2
        if most_are_right and wrong[worst] > self.p.threshold_misprediction:
            sentence = f"{100 * wrong[worst]:.0f} % of the {counts[worst]} images of class {worst} are predicted wrong."
            advice = "Set class_weights=balanced or sampling=balanced, or look whether its images are labelled right."
            yield self.found(step, "predictions", float(wrong[worst]), self.p.threshold_misprediction, sentence, advice)


def _add(counts: Array, labels: Array, predictions: Array) -> Array:
    classes = max(len(counts), int(max(labels.max(initial=0), predictions.max(initial=0))) + 1)
    grown = np.zeros((classes, classes), dtype=np.int64)
    grown[: len(counts), : len(counts)] = counts
    return np.asarray(grown + confusion(labels, predictions, classes))
