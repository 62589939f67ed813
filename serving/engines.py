"""Which engine computes the forward pass, and the proof at load that it answers as torch does in float32."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from kennel.classifier.errors import KennelError
from kennel.classifier.precision import half_precisions
from kennel.classifier.predictor import Predictor
from kennel.classifier.preprocess import normalise
from kennel.classifier.probes import read_probes
from serving import logs
from serving.batching import Batching
from serving.settings import ModelSettings

BOUNDS = {"fp32": 0.001, "bf16": 0.03, "int8": 0.1}  # how far a probability of a probe image may move
GPU_BATCH = 16
_WORTH_IT = 1.1  # a lower precision that gains less is not taken by `auto`


class EngineError(KennelError):
    """The engine that was asked for is not there, or does not answer as torch in float32 does."""


class Engine(Protocol):
    """What computes the forward pass; one instance serves many threads."""

    @property
    def name(self) -> str:
        """Engine and precision, for people."""

    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        """Class probabilities: float32 on the CPU, shape (N, classes), of uint8 images (N, 3, crop_px, crop_px)."""


class TorchFloat32:
    """torch as the trainer evaluates: the reference of every other engine."""

    name = "torch fp32"

    def __init__(self, predictor: Predictor) -> None:
        self.probabilities = predictor.probabilities


class TorchHalf:
    """torch in bfloat16 or float16, weights included, in the memory layout that such kernels want."""

    def __init__(self, predictor: Predictor, precision: str) -> None:
        self.name = f"torch {precision}"
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._device, self._preprocessing = predictor.device, predictor.meta.preprocessing
        model: nn.Module = copy.deepcopy(predictor.model)
        self._model = model.to(dtype=self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Engine`."""
        images = normalise(batch.to(self._device), self._preprocessing)
        logits = self._model(images.to(self._dtype, memory_format=torch.channels_last))
        return torch.softmax(logits.float(), dim=1).cpu()


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


def choose_engine(predictor: Predictor, folder: Path, settings: ModelSettings, streams: int = 1) -> Engine:
    """The engine that the settings ask for, proven on the artifact's probe images.

    Args:
        predictor: the loaded artifact.
        folder: where it lies, with what was packed beside it.
        settings: `engine` and `precision`; with `auto` the lower precision is taken where the hardware has it, it
            pays, and it agrees.
        streams: threads that will ask at the same time.

    Raises:
        EngineError: what was asked for cannot be had or does not agree. Nothing is replaced silently.
    """
    reference = TorchFloat32(predictor)
    if settings.engine == "openvino":
        from serving.openvino_engine import choose_openvino  # an option that not every installation has

        engine, reason = choose_openvino(predictor, folder, settings.precision, streams, reference)
    elif settings.precision == "fp32":
        engine, reason = reference, "asked for"
    else:
        engine, reason = _choose_torch(predictor, folder, settings.precision, reference)
    logs.event("engine", engine=engine.name, reason=reason)
    size = settings.batch_size or GPU_BATCH
    return Batching(engine, size) if predictor.device.type == "cuda" and size > 1 else engine


def _choose_torch(predictor: Predictor, folder: Path, precision: str, reference: Engine) -> tuple[Engine, str]:
    available = half_precisions(predictor.device)
    if precision == "auto":
        if predictor.device.type != "cpu" or not available:
            return reference, f"this {predictor.device.type} computes bfloat16 no faster, as far as we know"
        probes = read_probes(folder)
        if probes is None:
            return reference, "the artifact has no probe images that another precision could be checked on"
        half = TorchHalf(predictor, "bf16")
        found = compare(half, reference, probes)
        if found.labels_changed or found.largest_difference > BOUNDS["bf16"]:
            logs.event("engine_refused", engine=half.name, reason=found.sentence(), bound=BOUNDS["bf16"])
            return reference, f"bf16 was refused: {found.sentence()}; the bound is {BOUNDS['bf16']:g}"
        if found.speed < _WORTH_IT:
            return reference, f"bf16 is {found.speed:.2f} times as fast"
        return half, f"{found.speed:.1f} times as fast as fp32; {found.sentence()}"
    if precision not in available:
        raise EngineError(
            f"KENNEL_PRECISION={precision}, but this {predictor.device.type} does not compute in it by itself. "
            "Set fp32 or auto."
        )
    half = TorchHalf(predictor, precision)
    return half, demand(half, reference, folder, precision)


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
