"""Where a network goes wrong: the pairs of classes it confuses, and the photos it is most sure and wrong about."""

from __future__ import annotations

from dataclasses import dataclass

import torch

PAIRS = 20  # most confused pairs that a report lists
SHEET = 24  # photos on the sheet of worst mistakes


@dataclass(frozen=True)
class ConfusedPair:
    """Images of class `true` that were taken for class `predicted`."""

    true: int
    predicted: int
    images: int
    share: float  # of the images of class `true`, 0 to 1


@dataclass(frozen=True)
class Mistake:
    """An image for which a wrong class was the most probable one."""

    index: int  # position in the channel
    true: int
    predicted: int
    probability: float  # of the predicted class
    true_probability: float


def confused_pairs(confusion: torch.Tensor, limit: int = PAIRS) -> list[ConfusedPair]:
    """The largest counts off the diagonal, most images first; of equal counts, the larger share of its class first.

    Args:
        confusion: int64 counts, shape (classes, classes); rows are true classes, columns predicted ones.
        limit: the longest list.
    """
    totals = confusion.sum(1).tolist()
    pairs = [
        ConfusedPair(true, predicted, count, count / totals[true])
        for true, predicted in torch.nonzero(confusion).tolist()
        if true != predicted and (count := int(confusion[true, predicted]))
    ]
    return sorted(pairs, key=lambda pair: (-pair.images, -pair.share, pair.true, pair.predicted))[:limit]


def worst_mistakes(probabilities: torch.Tensor, targets: torch.Tensor, limit: int = SHEET) -> list[Mistake]:
    """The wrong predictions with the highest probability, surest first.

    Args:
        probabilities: float32, shape (N, classes); rows sum to 1.
        targets: int64, shape (N,).
        limit: the longest list.
    """
    confidence, predicted = probabilities.max(1)
    wrong = torch.nonzero(predicted != targets)[:, 0]
    order = wrong[torch.argsort(confidence[wrong], descending=True, stable=True)][:limit]
    return [
        Mistake(i, true, int(predicted[i]), float(confidence[i]), float(probabilities[i, true]))
        for i, true in zip(order.tolist(), targets[order].tolist(), strict=True)
    ]
