"""What an engine is, and the proof that one answers as torch does in float32."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch

from kennel.classifier.network.probes import read_probes
from kennel.contract.errors import KennelError

BOUNDS = {"fp32": 0.001, "bf16": 0.03, "int8": 0.1}  # how far a probability of a probe image may move


class EngineError(KennelError):
    """The engine that was asked for is not there, or does not answer as torch in float32 does."""


class Engine(ABC):
    """What computes the forward pass; one instance serves many threads."""

    name: str  # engine and precision, for people
    gathers = False  # whether images of several callers are computed together, so that each may send one at a time

    @abstractmethod
    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        """Class probabilities: float32 on the CPU, shape (N, classes), of uint8 images (N, 3, crop_px, crop_px)."""

    def close(self) -> None:  # noqa: B027 - most engines have nothing to end
        """End what runs for it, once every caller has an answer."""


@dataclass(frozen=True)
class Agreement:
    """How an engine's answers to the probe images compare with torch's in float32."""

    images: int
    labels_changed: int
    largest_difference: float  # of any class's probability
    speed: float  # images/s of the engine over those of the reference

    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.labels_changed} of {self.images} probe images change their label, probabilities move by "
            f"{self.largest_difference:.2g} at most"
        )


def demand(engine: Engine, reference: Engine, folder: Path, precision: str) -> str:
    """Prove an engine that was asked for by name.

    Returns:
        how well it agrees, in words.

    Raises:
        EngineError: it does not agree, or there is nothing to try it on.
    """
    probes = read_probes(folder)
    if probes is None:
        raise EngineError(
            f"{folder} has no probe images, so {engine.name} cannot be checked against torch fp32. Train again with "
            "this version, or unset KENNEL_ENGINE and KENNEL_PRECISION."
        )
    found, bound = compare(engine, reference, probes), BOUNDS[precision]
    if found.labels_changed or found.largest_difference > bound:
        raise EngineError(
            f"{engine.name} does not answer as torch fp32 does: {found.sentence()}; no label may change, and {bound:g} "
            "is the bound. Set KENNEL_PRECISION=fp32, or unset KENNEL_ENGINE."
        )
    return f"asked for; {found.speed:.1f} times as fast as torch fp32; {found.sentence()}"


def compare(engine: Engine, reference: Engine, probes: torch.Tensor) -> Agreement:
    """Ask both for the probe images.

    Args:
        engine: what is to be proven.
        reference: what it is to agree with.
        probes: uint8, shape (N, 3, crop_px, crop_px).
    """
    expected, slow_s = _timed(reference, probes)
    given, fast_s = _timed(engine, probes)
    difference = (given - expected).abs()
    # NaN compares as no difference; it must not pass for agreement.
    largest = float("inf") if bool(difference.isnan().any()) else float(difference.max())
    changed = int((given.argmax(1) != expected.argmax(1)).sum())
    return Agreement(len(probes), changed, largest, slow_s / max(fast_s, 1e-9))


def _timed(engine: Engine, probes: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Answers, and the seconds of the fastest image; the first image builds kernels."""
    answers, seconds = [], []
    for image in torch.split(probes, 1):
        start = time.perf_counter()
        answers.append(engine.probabilities(image))
        seconds.append(time.perf_counter() - start)
    return torch.cat(answers), min(seconds)
