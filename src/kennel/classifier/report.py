"""What a job leaves beside the artifact: scores, predictions and plots of images it did not learn from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kennel.classifier import plots
from kennel.classifier.artifact import Meta, write_meta
from kennel.classifier.contract import ContainerPaths, write_json, write_text
from kennel.classifier.evaluate import Evaluation, evaluate
from kennel.classifier.folder import ImageFolder
from kennel.classifier.loader import evaluation_loader
from kennel.classifier.metrics import metric_line
from kennel.classifier.predictor import Predictor

_LOG = logging.getLogger(__name__)


def write(
    paths: ContainerPaths,
    rows: Sequence[Mapping[str, float]],
    channel: str,
    folder: ImageFolder,
    *,
    batch_size: int,
    workers: int,
) -> Meta:
    """Judge the artifact as it lies on disk, through the same predictor that serves it.

    Args:
        paths: the job's folders; reads the artifact, writes into `output/data`.
        rows: one row of metrics an epoch.
        channel: "test", or "validation" when the job has no test images.
        folder: the images of that channel.
        batch_size: images in one forward pass.
        workers: loader processes.

    Returns:
        the artifact's meta, now with the test metrics.
    """
    predictor = Predictor.load(paths.model_dir)
    meta = predictor.meta
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
    write_json(out / f"{channel}_classes.json", evaluation.per_class(meta.classes))
    plots.learning_curves(rows, out / "learning_curves.png")
    plots.confusion_matrix(evaluation.confusion(), meta.labels, out / f"{channel}_confusion.png")
    _LOG.info("Reports: %s", ", ".join(sorted(path.name for path in out.iterdir())))
    return meta


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
