"""`python -m serving pack`: convert an artifact for OpenVINO once, instead of at every start of a server.

With int8 the network is calibrated on photos, and what that costs in accuracy is measured on others of the same folder.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kennel.classifier.data.folder import Sample, scan
from kennel.classifier.network.predictor import Predictor
from serving.engines.base import Engine, EngineError, demand
from serving.engines.openvino import OpenVino, convert, write_packed
from serving.engines.torch_engine import TorchFloat32

CALIBRATION_IMAGES = 300  # NNCF's own advice; more move the ranges little
MIN_IMAGES = 20  # half of them calibrate, half of them judge
_CHUNK = 16


@dataclass(frozen=True)
class Judgement:
    """Accuracy on photos that the calibration has not seen."""

    images: int
    accuracy: float  # of torch in float32
    packed_accuracy: float
    labels_changed: int

    @property
    def loss(self) -> float:
        """Accuracy that packing costs; negative where it gains."""
        return self.accuracy - self.packed_accuracy


def pack(folder: Path, precision: str, calibration: Path | None = None) -> Iterator[str]:
    """Put the network as OpenVINO wants it beside the weights of an artifact.

    Args:
        folder: the artifact.
        precision: fp32, which serves bf16 as well, or int8.
        calibration: for int8, a folder with a folder of images for each of the artifact's classes.

    Yields:
        lines for people, as things are done.

    Raises:
        ArtifactError: no artifact.
        DataError: the calibration folder does not hold the artifact's classes, or too few images.
        EngineError: the network cannot be converted, or does not agree with torch; nothing is written then.
    """
    predictor = Predictor.load(folder, torch.device("cpu"))
    reference = TorchFloat32(predictor)
    network, facts = convert(predictor), {}
    if precision == "int8":
        if calibration is None:
            raise EngineError("int8 needs photos to calibrate on: --calibration FOLDER, with a folder for each class.")
        images = scan(calibration, classes=predictor.meta.classes)
        seen, unseen = halves(images.samples, calibration)
        yield f"calibrating on {len(seen)} of {len(images)} images in {calibration}"
        network = quantize(network, predictor, seen)
        engine = OpenVino(network, precision, 1)
        judgement = judge(predictor, engine, reference, unseen)
        yield (
            f"accuracy on {judgement.images} other images: torch fp32 {judgement.accuracy:.4f}, int8 "
            f"{judgement.packed_accuracy:.4f}, loss {judgement.loss:.4f}; {judgement.labels_changed} labels change"
        )
        facts = {
            "calibration_fingerprint": images.fingerprint(),
            "calibration_images": len(seen),
            "judged_images": judgement.images,
            "accuracy_fp32": judgement.accuracy,
            "accuracy_int8": judgement.packed_accuracy,
        }
    engine = OpenVino(network, precision, 1)
    yield f"{engine.name}: {demand(engine, reference, folder, precision)}"
    write_packed(predictor, folder, network, precision, **facts)
    yield f"packed: serve {folder} with KENNEL_ENGINE=openvino" + (
        " KENNEL_PRECISION=int8" if precision == "int8" else ""
    )


def halves(samples: Sequence[Sample], root: Path) -> tuple[list[Sample], list[Sample]]:
    """Images to calibrate on and images to judge by: every other one each, so that both have every class.

    Raises:
        EngineError: too few images.
    """
    if len(samples) < MIN_IMAGES:
        raise EngineError(f"{root} has {len(samples)} images; calibrating and judging take {MIN_IMAGES} at least.")
    seen = list(samples[::2])
    return seen[:: max(1, len(seen) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES], list(samples[1::2])


def quantize(network: Any, predictor: Predictor, samples: Sequence[Sample]) -> Any:
    """Post-training quantisation by NNCF: int8 where the ranges seen on these images allow it.

    Raises:
        EngineError: NNCF is not installed.
    """
    try:
        import nncf
    except ImportError:
        raise EngineError("int8 needs NNCF, which is not installed. Install kennel[pack].") from None
    nncf.set_log_level("ERROR")
    dataset = nncf.Dataset(list(samples), lambda one: predictor.tensor(one.path)[None].numpy())
    with contextlib.redirect_stdout(sys.stderr):  # where progress belongs
        return nncf.quantize(network, dataset, subset_size=len(samples))


def judge(predictor: Predictor, engine: Engine, reference: Engine, samples: Sequence[Sample]) -> Judgement:
    """Ask both engines for the classes of images."""
    right = packed_right = changed = 0
    for start in range(0, len(samples), _CHUNK):
        chunk = samples[start : start + _CHUNK]
        batch = torch.stack([predictor.tensor(one.path) for one in chunk])
        targets = torch.tensor([one.target for one in chunk])
        expected, found = reference.probabilities(batch).argmax(1), engine.probabilities(batch).argmax(1)
        right += int((expected == targets).sum())
        packed_right += int((found == targets).sum())
        changed += int((expected != found).sum())
    return Judgement(len(samples), right / len(samples), packed_right / len(samples), changed)
