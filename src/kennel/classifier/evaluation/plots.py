"""Pictures of a run, drawn by matplotlib without a display.

Labels are folder names, so anything may be in them: they are shortened to fit and never read as mathematics.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure  # the object interface: no global state, no display, safe in threads
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kennel.classifier.evaluation.calibration import ConfidenceBin
from kennel.contract.files import atomic_write

_MARKED_EPOCHS = 40  # more than this, and markers hide the line
_LOG_SPAN = 100  # highest over lowest loss, above which a linear axis flattens the rest
_COUNTED_CLASSES = 160  # more than this, and counts in the cells are too small to read
_LONGEST_SIDE_IN = 26.0  # of a confusion matrix; beyond, every n-th class is named
_LABEL_CHARS = 40  # "Nova Scotia duck tolling retriever" fits
_SHEET_COLUMNS = 6
_PHOTO_IN, _GAP_IN, _LINE_IN = 2.35, 0.15, 0.14  # of a sheet: a photo's side, between two, a line of text


@dataclass(frozen=True)
class Photo:
    """One photo of a sheet, and the lines above it."""

    pixels: torch.Tensor  # uint8 (3, H, W), RGB
    true: str
    predicted: str
    probability: float  # of the predicted class


def learning_curves(rows: Sequence[Mapping[str, float]], path: Path, *, best_epoch: int | None = None) -> None:
    """Loss and accuracy by epoch, training beside validation; loss on a log axis where it spans two decades.

    Args:
        rows: one row of metrics an epoch.
        path: where the PNG goes.
        best_epoch: the epoch whose weights are kept, from 1 on; marked by a line.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = range(1, len(rows) + 1)
    margin = 0.5 if len(rows) <= 1 else 0.03 * (len(rows) - 1)
    marker = "o" if len(rows) <= _MARKED_EPOCHS else ""
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part in ("train", "validation"):
            values = [row[f"{part}_{quantity}"] for row in rows]
            axes.plot(epochs, values, marker=marker, markersize=4, linewidth=1.5, label=part)
        if best_epoch and len(rows) > 1:
            axes.axvline(best_epoch, color="grey", linestyle=":", linewidth=1.2, label=f"epoch {best_epoch} is kept")
        axes.set_xlim(1 - margin, len(rows) + margin)
        ticks = MaxNLocator(integer=True, min_n_ticks=1).tick_values(1, len(rows))
        axes.set_xticks([tick for tick in ticks if 1 <= tick <= len(rows)])  # there is no epoch 0
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
        values = [row[f"{part}_{quantity}"] for row in rows for part in ("train", "validation")]
        (_scale_loss if quantity == "loss" else _scale_accuracy)(axes, values)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)  # inside it would hide a part of a curve
    save(figure, path)


def _scale_loss(axes: Axes, values: Sequence[float]) -> None:
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if not positive:
        return
    if max(positive) > _LOG_SPAN * min(positive):
        axes.set_yscale("log")
        axes.set_ylabel("loss (log scale)")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(0, 1.05 * max(positive))


def _scale_accuracy(axes: Axes, values: Sequence[float]) -> None:
    if values:
        margin = 0.02 + 0.05 * (max(values) - min(values))
        axes.set_ylim(max(-0.02, min(values) - margin), min(1.02, max(values) + margin))


def confusion_matrix(matrix: torch.Tensor, labels: Sequence[str], path: Path) -> None:
    """True classes down, predicted classes across; colour is the share of the true class, numbers are images.

    Args:
        matrix: int64 counts, shape (classes, classes).
        labels: readable names in the matrix's order.
        path: where the PNG goes.
    """
    count = len(labels)
    cell_in = min(0.6, max(0.15, 9 / count))
    side_in = min(_LONGEST_SIDE_IN, max(2.4, cell_in * count))
    font = min(10.0, max(5.5, 72 * side_in / count * 0.7))
    figure = Figure(figsize=(side_in + 3, side_in + 3))
    # Placed in inches: `save` crops to what is drawn, so labels of any length fit and nothing is empty.
    axes = figure.add_axes((0.1, 0.1, side_in / (side_in + 3), side_in / (side_in + 3)))
    shares = matrix / matrix.sum(1, keepdim=True).clamp_min(1)
    # The square root lifts a single confused image of a class of ten out of the white.
    image = axes.imshow(shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    height = min(1.0, 5 / side_in)
    bar = axes.inset_axes((1 + 0.2 / side_in, 1 - height, 0.18 / side_in, height))
    figure.colorbar(image, cax=bar, label="share of the true class")
    step = math.ceil(count * 0.1 / side_in)  # a name needs a tenth of an inch
    ticks = list(range(0, count, step))
    names = [short(labels[i]) for i in ticks]
    axes.set_xticks(ticks, names, rotation=90, fontsize=font, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=font, parse_math=False)
    axes.tick_params(top=count > 40, labeltop=count > 40, length=2)  # a tall matrix is read from the top, too
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("true", fontsize=11)
    if count <= _COUNTED_CLASSES:
        _rule_cells(axes, count)
        for row, column in torch.nonzero(matrix).tolist():
            colour = "white" if shares[row, column] > 0.4 else "black"
            text = str(int(matrix[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=font)
    save(figure, path)


def _rule_cells(axes: Axes, count: int) -> None:
    edges = [i - 0.5 for i in range(1, count)]
    axes.hlines(edges, -0.5, count - 0.5, color="#dddddd", linewidth=0.4)
    axes.vlines(edges, -0.5, count - 0.5, color="#dddddd", linewidth=0.4)


def confused_pairs(pairs: Sequence[tuple[str, str, int, float]], path: Path) -> None:
    """The most confused pairs of classes as bars, most images on top.

    Args:
        pairs: true label, predicted label, images, and their share of the true class (0 to 1).
        path: where the PNG goes.
    """
    figure = Figure(figsize=(7, 0.28 * len(pairs) + 0.9))
    axes = figure.subplots()
    images = [pair[2] for pair in pairs]
    bars = axes.barh(range(len(pairs)), images, color="tab:blue", height=0.7)
    axes.bar_label(bars, [f"{n} ({share:.0%} of the class)" for _, _, n, share in pairs], padding=3, fontsize=8)
    names = [f"{short(true)} → {short(predicted)}" for true, predicted, _, _ in pairs]
    axes.set_yticks(range(len(pairs)), names, fontsize=9, parse_math=False)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xlim(0, max(images) * 1.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("images (true class → predicted class)")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def reliability_diagram(bins: Sequence[ConfidenceBin], error: float, path: Path) -> None:
    """Accuracy of the images of each confidence bin beside the accuracy that the confidence promises.

    Args:
        bins: bins of equal width from 0 to 1.
        error: their expected calibration error, for the title.
        path: where the PNG goes.
    """
    figure = Figure(figsize=(5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    full = [b for b in bins if b.accuracy is not None and b.mean_confidence is not None]
    middles = [(b.lower + b.upper) / 2 for b in full]
    width = 1 / len(bins)
    accuracy = [b.accuracy or 0.0 for b in full]
    confidence = [b.mean_confidence or 0.0 for b in full]
    upper.bar(middles, accuracy, width, color="#9ecae1", edgecolor="white", label="accuracy")
    gaps = [c - a for a, c in zip(accuracy, confidence, strict=True)]
    upper.bar(middles, gaps, width, bottom=accuracy, facecolor="none", edgecolor="tab:red", hatch="////",
              label="gap to the mean confidence")  # fmt: skip
    upper.plot((0, 1), (0, 1), color="black", linestyle="--", linewidth=1, label="calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy", title=f"expected calibration error {error:.3f}")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)  # inside it would hide bars
    lower.bar([(b.lower + b.upper) / 2 for b in bins], [b.images for b in bins], width, color="grey", edgecolor="white")
    lower.set(xlabel="confidence: probability of the predicted class", ylabel="images")
    lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    save(figure, path)


def photo_sheet(photos: Sequence[Photo], path: Path) -> None:
    """Photos in rows, in their order, each with its true label, its predicted label and that one's probability."""
    columns = min(_SHEET_COLUMNS, len(photos))
    titles = [_lines("true", p.true) + _lines(f"predicted {percent(p.probability)}", p.predicted) for p in photos]
    cell_in = _PHOTO_IN + _GAP_IN, _PHOTO_IN + _GAP_IN + _LINE_IN * max(map(len, titles))
    rows = math.ceil(len(photos) / columns)
    figure = Figure(figsize=(cell_in[0] * columns, cell_in[1] * rows))
    axes = figure.add_axes((0, 0, 1, 1))  # in inches; a plot of its own for each photo takes three times as long
    for number, (photo, lines) in enumerate(zip(photos, titles, strict=True)):
        left, bottom = number % columns * cell_in[0], (rows - 1 - number // columns) * cell_in[1]
        axes.imshow(photo.pixels.permute(1, 2, 0).numpy(), extent=(left, left + _PHOTO_IN, bottom, bottom + _PHOTO_IN))
        axes.text(left, bottom + _PHOTO_IN + 0.05, "\n".join(lines), fontsize=8, va="bottom", parse_math=False)
    axes.set(xlim=(0, cell_in[0] * columns), ylim=(0, cell_in[1] * rows))
    axes.set_axis_off()
    save(figure, path)


def _lines(kind: str, text: str) -> list[str]:
    """At most two lines that fit above a photo."""
    return textwrap.wrap(f"{kind}: {text}", 36, max_lines=2, placeholder=" …", subsequent_indent="    ")


def percent(share: float) -> str:
    """A probability as whole per cent that never claims certainty: `>99 %` for 0.997."""
    return ">99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def short(label: str) -> str:
    """A label that fits beside a plot: its end gives way to an ellipsis where it is too long."""
    return label if len(label) <= _LABEL_CHARS else label[: _LABEL_CHARS - 1].rstrip() + "…"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, cropped to what is drawn on it, whole or not at all."""
    with atomic_write(path) as file:
        figure.savefig(
            file, format="png", dpi=110, bbox_inches="tight", pad_inches=0.12, pil_kwargs={"compress_level": 3}
        )
