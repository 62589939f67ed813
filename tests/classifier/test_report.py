"""What a job leaves beside the artifact, from a network whose answers are known."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from kennel.classifier.data.folder import ImageFolder, scan
from kennel.classifier.data.preprocess import Preprocessing
from kennel.classifier.evaluation import plots, report
from kennel.classifier.evaluation.calibration import confidence_bins
from kennel.classifier.network.artifact import Meta, read_meta, save_artifact
from kennel.classifier.network.model import build, head_parameters
from kennel.contract.paths import ContainerPaths
from tests.conftest import make_photos

ROW = {"train_loss": 0.5, "train_accuracy": 0.75, "validation_loss": 0.4, "validation_accuracy": 0.8}
BREEDS = ("Chesapeake Bay retriever", "Nova Scotia duck tolling retriever", "Cavalier King Charles spaniel")


def leave_artifact(paths: ContainerPaths, classes: tuple[str, ...], logits: list[float]) -> None:
    """A network that gives every photo the same logits: all weights of its head are 0, the biases are these."""
    model = build("resnet18", len(classes))
    weight, bias = (model.get_parameter(name) for name in sorted(head_parameters("resnet18"), reverse=True))
    with torch.no_grad():
        nn.init.zeros_(weight)
        bias.copy_(torch.tensor(logits))
    preprocessing = Preprocessing.for_arch("resnet18", resize_px=32, crop_px=32)
    meta = Meta("resnet18", classes, classes, preprocessing, {}, {"best_epoch": 1}, {}, "unknown")
    save_artifact(paths.model_dir, model, meta)


def write(paths: ContainerPaths, folder: ImageFolder, channel: str = "test") -> dict[str, Any]:
    report.write(paths, [ROW], channel, folder, batch_size=4, workers=0)
    summary: dict[str, Any] = json.loads((paths.output_data_dir / f"{channel}_summary.json").read_text())
    return summary


def test_the_summary_holds_every_score(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = scan(make_photos(tmp_path / "photos", images=3))  # three blue, then three red
    paths = ContainerPaths(tmp_path / "job")
    leave_artifact(paths, folder.classes, [torch.tensor(3.0).log().item(), 0.0])  # blue with 0.75, whatever comes
    with caplog.at_level("INFO"):
        summary = write(paths, folder)
    close = pytest.approx
    bins = summary["calibration"].pop("bins")
    assert [one["images"] for one in bins] == [0] * 11 + [6] + [0] * 3
    assert bins[11]["accuracy"] == 0.5
    assert bins[0]["accuracy"] is None
    assert summary == {
        "channel": "test",
        "images": 6,
        "classes": 2,
        "loss": close(-(torch.tensor([0.75, 0.25]).log().mean().item()), rel=1e-5),
        "accuracy": 0.5,
        "macro": {"precision": 0.25, "recall": 0.5, "f1": close(1 / 3)},
        "calibration": {"expected_calibration_error": close(0.25, rel=1e-5), "mean_confidence": close(0.75, rel=1e-5)},
        "per_class": [
            {"class": "blue", "images": 3, "precision": 0.5, "recall": 1.0, "f1": close(2 / 3)},
            {"class": "red", "images": 3, "precision": 0.0, "recall": 0.0, "f1": 0.0},
        ],
        "confused_pairs": [{"class": "red", "predicted": "blue", "images": 3, "share_of_class": 1.0}],
        "worst_mistakes": [
            {
                "path": f"red/00{i}.jpg",
                "class": "red",
                "predicted": "blue",
                "probability": close(0.75, rel=1e-5),
                "probability_of_class": close(0.25, rel=1e-5),
            }
            for i in range(3)
        ],
    }
    assert read_meta(paths.model_dir).metrics["test_accuracy"] == 0.5
    assert "On test: macro F1 0.3333, expected calibration error 0.2500" in caplog.text
    left = {path.name for path in paths.output_data_dir.iterdir()}
    assert left == {
        "learning_curves.png", "test_confusion.png", "test_predictions.jsonl", "test_reliability.png",
        "test_summary.json", "test_worst_mistakes.png",
    }  # fmt: skip


def test_without_a_mistake_there_is_no_sheet_and_none_of_an_earlier_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = make_photos(tmp_path / "photos", images=2)
    whole = scan(photos)
    blue = ImageFolder(photos, whole.classes, tuple(s for s in whole.samples if s.target == 0))
    paths = ContainerPaths(tmp_path / "job")
    leave_artifact(paths, whole.classes, [1.0, 0.0])
    write(paths, whole)
    sheet = paths.output_data_dir / "test_worst_mistakes.png"
    assert sheet.exists()
    with caplog.at_level("INFO"):
        assert write(paths, blue)["worst_mistakes"] == []
    assert not sheet.exists()
    assert "No mistake on 2 images: test_worst_mistakes.png is not written." in caplog.text


def test_many_classes_add_top_5_accuracy_and_a_chart_of_confused_pairs(tmp_path: Path) -> None:
    classes = tuple(f"{i:03}.Breed_{i}" for i in range(21))
    photos = tmp_path / "photos"
    for i, name in enumerate(classes):
        (photos / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (i * 10, 0, 0)).save(photos / name / "one.png")
    paths = ContainerPaths(tmp_path / "job")
    leave_artifact(paths, classes, [-0.1 * i for i in range(21)])  # always 0, then 1, 2, 3, 4
    summary = write(paths, scan(photos), "validation")
    assert summary["top5_accuracy"] == pytest.approx(5 / 21)
    assert summary["accuracy"] == pytest.approx(1 / 21)
    assert (paths.output_data_dir / "validation_confused_pairs.png").exists()
    assert len(summary["worst_mistakes"]) == 20
    assert "test_accuracy" not in read_meta(paths.model_dir).metrics


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they are saved, for a look at what is on them."""
    figures: list[Figure] = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda figure, path: (figures.append(figure), save(figure, path)))
    return figures


def epochs(count: int, first_validation_loss: float, last: float = 0.5) -> list[Mapping[str, float]]:
    return [{**ROW, "validation_loss": first_validation_loss if i == 0 else last} for i in range(count)]


@pytest.mark.parametrize(
    ("rows", "scale"),
    [
        (epochs(1, 0.4), "linear"),
        (epochs(200, 0.4), "linear"),
        (epochs(200, 18.0, last=0.05), "log"),  # the first losses of a fresh batch norm
        (epochs(3, 0.4, last=0.0), "linear"),
    ],
)
def test_the_loss_axis_is_logarithmic_where_it_spans_two_decades(
    rows: list[Mapping[str, float]], scale: str, drawn: list[Figure], tmp_path: Path
) -> None:
    plots.learning_curves(rows, tmp_path / "curves.png", best_epoch=1)
    loss, accuracy = drawn[0].axes
    assert (loss.get_yscale(), accuracy.get_yscale()) == (scale, "linear")
    left, right = loss.get_xlim()
    assert left < 1
    assert right > len(rows)
    ticks = loss.get_xticks()
    assert len(ticks) >= 1
    assert all(1 <= tick <= len(rows) and tick == int(tick) for tick in ticks)


@pytest.mark.parametrize("count", [3, 20, 133, 400])
def test_the_labels_of_a_confusion_matrix_do_not_overlap(count: int, drawn: list[Figure], tmp_path: Path) -> None:
    labels = ["$_{$", *(f"{BREEDS[i % 3]} {i}" for i in range(1, count))]
    plots.confusion_matrix(torch.eye(count, dtype=torch.int64) * 7, labels, tmp_path / "confusion.png")
    axes = drawn[0].axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        named = [tick.label1 for tick in axis.get_major_ticks()]
        assert len(named) == (count if count <= 133 else 200)
        boxes = [text.get_window_extent() for text in named]
        assert not any(one.overlaps(following) for one, following in itertools.pairwise(boxes))
    numbers = {text.get_text() for text in axes.texts}
    assert numbers == ({"7"} if count <= 133 else set())


def test_a_sheet_names_the_classes_and_fits_the_text_above_each_photo(drawn: list[Figure], tmp_path: Path) -> None:
    pixels = torch.zeros(3, 64, 64, dtype=torch.uint8)
    endless = " ".join(["Xoloitzcuintle"] * 20)
    photos = [plots.Photo(pixels, BREEDS[1], BREEDS[0], 0.984), plots.Photo(pixels, endless, "$x_{$", 0.9961)]
    plots.photo_sheet([*photos, *photos, *photos, photos[0]], tmp_path / "sheet.png")
    [axes] = drawn[0].axes
    assert len(axes.images) == len(axes.texts) == 7
    first, second = (one.get_text() for one in axes.texts[:2])
    assert " ".join(first.split()) == f"true: {BREEDS[1]} predicted 98 %: {BREEDS[0]}"
    assert second.endswith("…\npredicted >99 %: $x_{$")
    for left, right in itertools.pairwise(axes.texts[:6]):
        assert left.get_window_extent().x1 < right.get_window_extent().x0
    for photo, text in zip(axes.images, axes.texts, strict=True):
        under, above = photo.get_window_extent(), text.get_window_extent()
        assert abs(under.x0 - above.x0) < 2
        assert 0 < above.y0 - under.y1 < 10
    upper, lower = axes.images[0].get_window_extent(), axes.texts[6].get_window_extent()
    assert lower.y1 < upper.y0, "the text of the second row begins below the first one's photos"


@pytest.mark.parametrize(("share", "text"), [(0.984, "98 %"), (0.9961, ">99 %"), (1.0, "100 %"), (0.3, "30 %")])
def test_a_probability_below_one_never_reads_as_certainty(share: float, text: str) -> None:
    assert plots.percent(share) == text


def test_the_reliability_diagram_draws_accuracy_by_confidence(drawn: list[Figure], tmp_path: Path) -> None:
    bins = confidence_bins(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 1, 1]))
    plots.reliability_diagram(bins, 0.25, tmp_path / "reliability.png")
    upper, lower = drawn[0].axes
    accuracy, gap = upper.patches
    assert (accuracy.get_height(), gap.get_y(), gap.get_height()) == (0.5, 0.5, 0.25)
    assert [bar.get_height() for bar in lower.patches] == [0] * 11 + [4] + [0] * 3
    assert upper.get_title() == "expected calibration error 0.250"


def test_bars_of_confused_pairs_keep_their_order_and_names(drawn: list[Figure], tmp_path: Path) -> None:
    plots.confused_pairs([("a", "b", 3, 0.5), ("x" * 60, "$d_{$", 1, 0.25)], tmp_path / "pairs.png")
    axes = drawn[0].axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a → b", "x" * 39 + "… → $d_{$"]
    assert [bar.get_width() for bar in axes.patches] == [3, 1]
    low, high = axes.get_ylim()
    assert low > high  # the first pair is on top
