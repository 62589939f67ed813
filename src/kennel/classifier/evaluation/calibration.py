"""How far a network's probabilities can be taken at their word."""

from __future__ import annotations

from dataclasses import dataclass

import torch

BINS = 15  # the number in Guo et al. 2017, so that values compare with those of papers


@dataclass(frozen=True)
class ConfidenceBin:
    """The images whose most probable class got a probability in (lower, upper]."""

    lower: float
    upper: float
    images: int
    mean_confidence: float | None  # None in a bin without images
    accuracy: float | None


def confidence_bins(probabilities: torch.Tensor, targets: torch.Tensor, bins: int = BINS) -> list[ConfidenceBin]:
    """Sort images by confidence, the probability of the predicted class, into bins of equal width.

    Args:
        probabilities: float32, shape (N, classes); rows sum to 1.
        targets: int64, shape (N,).
        bins: how many parts 0 to 1 is cut into; bin m holds ((m - 1) / bins, m / bins], as in Guo et al. 2017, 3.
    """
    confidence, predicted = probabilities.max(1)
    inner = torch.tensor([m / bins for m in range(1, bins)], dtype=confidence.dtype)
    own_bin = torch.bucketize(confidence, inner)  # a value on an edge belongs to the bin below it
    hits = (predicted == targets).double()
    found = []
    for m in range(bins):
        inside = own_bin == m
        images = int(inside.sum())
        found.append(
            ConfidenceBin(
                lower=m / bins,
                upper=(m + 1) / bins,
                images=images,
                mean_confidence=float(confidence[inside].double().mean()) if images else None,
                accuracy=float(hits[inside].mean()) if images else None,
            )
        )
    return found


def expected_calibration_error(bins: list[ConfidenceBin]) -> float:
    """ECE = sum over bins m of |B_m| / n * |acc(B_m) - conf(B_m)|, 0 (calibrated) to 1.

    Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3
    (arXiv:1706.04599). It depends on the bins, and is noisy for few images: compare it only for the same bins.
    """
    total = sum(b.images for b in bins)
    return sum(
        b.images / total * abs(b.accuracy - b.mean_confidence)
        for b in bins
        if b.accuracy is not None and b.mean_confidence is not None
    )
