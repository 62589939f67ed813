"""Pictures of a run, drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure  # the object interface: no global state, no display, safe in threads

from kennel.classifier.contract import atomic_write

_LABELLED_CELLS = 20  # more classes than this, and numbers in the cells are too small to read
_TICKS = 40  # more classes than this, and every n-th is named


def learning_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Loss and accuracy by epoch, training beside validation."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = range(1, len(rows) + 1)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part in ("train", "validation"):
            axes.plot(epochs, [row[f"{part}_{quantity}"] for row in rows], marker="o", markersize=3, label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, path)


def confusion_matrix(matrix: torch.Tensor, labels: Sequence[str], path: Path) -> None:
    """True classes down, predicted classes across; shares of each true class.

    Args:
        matrix: int64 counts, shape (classes, classes).
        labels: readable names in the matrix's order.
        path: where the PNG goes.
    """
    side = min(24.0, max(4.5, 0.22 * len(labels) + 2.5))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / matrix.sum(1, keepdim=True).clamp_min(1)
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    step = -(-len(labels) // (_TICKS * 4)) if len(labels) > _TICKS * 4 else 1
    ticks = list(range(0, len(labels), step))
    size = 9 if len(labels) <= _TICKS else 6
    axes.set_xticks(ticks, [labels[i] for i in ticks], rotation=90, fontsize=size)
    axes.set_yticks(ticks, [labels[i] for i in ticks], fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(labels) <= _LABELLED_CELLS:
        for row, column in torch.nonzero(matrix).tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(int(matrix[row, column])), ha="center", va="center", color=colour)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)
