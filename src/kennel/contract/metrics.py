"""The metric line: one definition of what is printed and of the regular expression that reads it."""

from __future__ import annotations

from collections.abc import Mapping

METRICS: dict[str, str] = {
    "train_loss": "mean training loss of the epoch",
    "train_accuracy": "share of training images that were classified right while training, 0 to 1",
    "validation_loss": "mean cross-entropy on the validation images",
    "validation_accuracy": "share of validation images classified right, 0 to 1",
    "test_loss": "mean cross-entropy on the test images, once at the end",
    "test_accuracy": "share of test images classified right, 0 to 1, once at the end",
    "images_per_second": "training images per second of the epoch, waiting for data included",
}

_NUMBER = r"([-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)"


def metric_line(values: Mapping[str, float], **context: object) -> str:
    """One line of `name=value` pairs, context first: `epoch=3/10 train_loss=0.412300 ...`.

    A value that is not finite is printed as it is (`nan`); the regular expression passes over it, as
    CloudWatch takes finite numbers only.

    Raises:
        KeyError: a name that METRICS does not list, so that no metric can be printed that nobody can read.
    """
    for name in values:
        if name not in METRICS:
            raise KeyError(name)
    parts = [f"{name}={value}" for name, value in context.items()]
    return " ".join(parts + [f"{name}={values[name]:.6f}" for name in METRICS if name in values])


def metric_definitions() -> list[dict[str, str]]:
    """AlgorithmSpecification.MetricDefinitions for a training or tuning request (at most 40, regex at most 500)."""
    return [{"Name": name, "Regex": rf"\b{name}={_NUMBER}\b"} for name in METRICS]
