"""What a job leaves beside the artifact: scores, predictions and plots of images it did not learn from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kennel.classifier.data.folder import ImageFolder
from kennel.classifier.data.loader import evaluation_loader
from kennel.classifier.evaluation import plots
from kennel.classifier.evaluation.calibration import confidence_bins, expected_calibration_error
from kennel.classifier.evaluation.evaluate import Evaluation, evaluate
from kennel.classifier.evaluation.mistakes import confused_pairs, worst_mistakes
from kennel.classifier.network.artifact import Meta, write_meta
from kennel.classifier.network.predictor import Predictor
from kennel.contract.files import write_json, write_text
from kennel.contract.metrics import metric_line
from kennel.contract.paths import ContainerPaths

_LOG = logging.getLogger(__name__)
_TOP = 5  # with as many classes or fewer, every image would count as right
_CHARTED_CLASSES = 20  # more classes than this, and the confused ones are hard to find in the matrix


def write(
    paths: ContainerPaths,
    rows: Sequence[Mapping[str, float]],
    channel: str,
    folder: ImageFolder,
    *,
    batch_size: int,
    workers: int,
    evaluation: Evaluation | None = None,
) -> Meta:
    """Judge the artifact as it lies on disk, through the same predictor that serves it.

    Args:
        paths: the job's folders; reads the artifact, writes into `output/data`.
        rows: one row of metrics an epoch.
        channel: "test", or "validation" when the job has no test images.
        folder: the images of that channel.
        batch_size: images in one forward pass.
        workers: loader processes.
        evaluation: what the artifact makes of these images, where that is known.

    Returns:
        the artifact's meta, now with the test metrics.
    """
    predictor = Predictor.load(paths.model_dir)
    meta = predictor.meta
    if evaluation is None:
        batches = evaluation_loader(
            folder, meta.preprocessing, batch_size=batch_size, workers=workers, pin=predictor.device.type == "cuda"
        )
        evaluation = evaluate(predictor.logits, batches)
    if channel == "test":
        scores = {"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}
        _LOG.info(metric_line(scores))
        meta = write_meta(paths.model_dir, replace(meta, metrics={**meta.metrics, **scores}))
    out = paths.output_data_dir
    write_text(out / f"{channel}_predictions.jsonl", _prediction_lines(evaluation, folder))
    summary = summarise(evaluation, folder, channel)
    write_json(out / f"{channel}_summary.json", summary)
    _LOG.info("On %s: %s", channel, _headline(summary))
    plots.learning_curves(rows, out / "learning_curves.png", best_epoch=int(meta.metrics.get("best_epoch", 0)) or None)
    plots.confusion_matrix(evaluation.confusion(), meta.labels, out / f"{channel}_confusion.png")
    bins = confidence_bins(evaluation.probabilities, evaluation.targets)
    plots.reliability_diagram(bins, expected_calibration_error(bins), out / f"{channel}_reliability.png")
    _draw_confused_pairs(evaluation, meta.labels, out / f"{channel}_confused_pairs.png")
    _draw_worst_mistakes(evaluation, folder, predictor, out / f"{channel}_worst_mistakes.png")
    _LOG.info("Reports: %s", ", ".join(sorted(path.name for path in out.iterdir())))
    return meta


def summarise(evaluation: Evaluation, folder: ImageFolder, channel: str) -> dict[str, Any]:
    """Every score of a channel in one JSON object; classes and images by name, shares and probabilities 0 to 1.

    `top5_accuracy` is there for more than five classes. `macro` is `Evaluation.macro`, `calibration` is
    `confidence_bins` with their expected calibration error, `confused_pairs` and `worst_mistakes` are in their order.
    """
    classes = folder.classes
    bins = confidence_bins(evaluation.probabilities, evaluation.targets)
    top = {f"top{_TOP}_accuracy": evaluation.top_accuracy(_TOP)} if len(classes) > _TOP else {}
    return {
        "channel": channel,
        "images": len(folder),
        "classes": len(classes),
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        **top,
        "macro": evaluation.macro(),
        "calibration": {
            "expected_calibration_error": expected_calibration_error(bins),
            "mean_confidence": float(evaluation.probabilities.max(1).values.double().mean()),
            "bins": [asdict(one) for one in bins],
        },
        "per_class": evaluation.per_class(classes),
        "confused_pairs": [
            {"class": classes[pair.true], "predicted": classes[pair.predicted], "images": pair.images,
             "share_of_class": pair.share}
            for pair in confused_pairs(evaluation.confusion())
        ],
        "worst_mistakes": [
            {"path": folder.relative(folder.samples[worst.index]), "class": classes[worst.true],
             "predicted": classes[worst.predicted], "probability": worst.probability,
             "probability_of_class": worst.true_probability}
            for worst in worst_mistakes(evaluation.probabilities, evaluation.targets)
        ],
    }  # fmt: skip


def _headline(summary: Mapping[str, Any]) -> str:
    top = f"top-{_TOP} accuracy {summary[f'top{_TOP}_accuracy']:.4f}, " if f"top{_TOP}_accuracy" in summary else ""
    error = summary["calibration"]["expected_calibration_error"]
    return f"{top}macro F1 {summary['macro']['f1']:.4f}, expected calibration error {error:.4f}"


def _draw_confused_pairs(evaluation: Evaluation, labels: Sequence[str], path: Path) -> None:
    pairs = confused_pairs(evaluation.confusion()) if len(labels) > _CHARTED_CLASSES else []
    if pairs:
        plots.confused_pairs([(labels[p.true], labels[p.predicted], p.images, p.share) for p in pairs], path)
    else:
        path.unlink(missing_ok=True)  # an earlier run in this folder may have had some


def _draw_worst_mistakes(evaluation: Evaluation, folder: ImageFolder, predictor: Predictor, path: Path) -> None:
    worst = worst_mistakes(evaluation.probabilities, evaluation.targets)
    if not worst:
        path.unlink(missing_ok=True)
        _LOG.info("No mistake on %d images: %s is not written.", len(folder), path.name)
        return
    labels = predictor.meta.labels
    photos = [
        plots.Photo(predictor.tensor(folder.samples[m.index].path), labels[m.true], labels[m.predicted], m.probability)
        for m in worst
    ]
    plots.photo_sheet(photos, path)


def _prediction_lines(evaluation: Evaluation, folder: ImageFolder) -> str:
    """One line an image: path below the channel, true and predicted class, all probabilities in class order."""
    lines = []
    for sample, row in zip(folder.samples, evaluation.probabilities, strict=True):
        values = {
            "path": folder.relative(sample),
            "class": folder.classes[sample.target],
            "predicted": folder.classes[int(row.argmax())],
            "probabilities": row.tolist(),
        }
        lines.append(json.dumps(values, ensure_ascii=False) + "\n")
    return "".join(lines)
