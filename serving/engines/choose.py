"""Which engine computes the forward pass; `auto` takes what agrees with torch in float32 and pays."""

from __future__ import annotations

from pathlib import Path

from kennel.classifier.network.precision import half_precisions
from kennel.classifier.network.predictor import Predictor
from kennel.classifier.network.probes import read_probes
from serving import logs
from serving.engines.base import BOUNDS, Engine, EngineError, compare, demand
from serving.engines.batching import Batching
from serving.engines.torch_engine import TorchFloat32, TorchHalf
from serving.settings import ModelSettings

GPU_BATCH = 16
_WORTH_IT = 1.1  # a lower precision that gains less is not taken by `auto`


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
        from serving.engines.openvino import choose_openvino  # an option that not every installation has

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
