"""Probe images: a few photos in the artifact, on which another engine than torch is held against torch."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch

from kennel.classifier.data.folder import ImageFolder
from kennel.classifier.network.predictor import Predictor
from kennel.contract.errors import ArtifactError
from kennel.contract.files import atomic_write

FILE = "probes.safetensors"
PROBES = 8  # 1.2 MB at 224 px
CANDIDATES = 32
MARGIN = 0.2  # between the two most probable classes: at a tie a label says nothing of an engine


def choose_probes(predictor: Predictor, folder: ImageFolder, probabilities: torch.Tensor | None = None) -> torch.Tensor:
    """Images from all over a channel about which the network is least sure without being undecided.

    Those move most when an engine computes differently. Where there are not enough of them, surer or less sure ones
    fill up.

    Args:
        predictor: the artifact.
        folder: the channel.
        probabilities: what the artifact makes of all of its images, shape (N, classes), where that is known.

    Returns:
        uint8, shape (N, 3, crop_px, crop_px), N at most 8.
    """
    step = max(1, len(folder) // CANDIDATES)
    candidates = folder.samples[::step][:CANDIDATES]
    if probabilities is None:
        images = torch.stack([predictor.tensor(one.path) for one in candidates])
        return images[_order(torch.cat([predictor.probabilities(part) for part in torch.split(images, PROBES)]))]
    chosen = _order(probabilities[::step][:CANDIDATES])
    return torch.stack([predictor.tensor(candidates[place].path) for place in chosen.tolist()])


def _order(probabilities: torch.Tensor) -> torch.Tensor:
    """The places of the rows to take, the least sure first and the undecided ones last."""
    best = probabilities.topk(2).values
    margin = best[:, 0] - best[:, 1]
    return torch.where(margin >= MARGIN, margin, 2 - margin).argsort()[:PROBES]


def save_probes(folder: Path, images: torch.Tensor) -> None:
    """Write probe images: uint8, shape (N, 3, crop_px, crop_px)."""
    with atomic_write(folder / FILE) as file:
        file.write(safetensors.torch.save({"images": images.contiguous()}))


def read_probes(folder: Path) -> torch.Tensor | None:
    """The probe images, uint8, shape (N, 3, crop_px, crop_px); None when the artifact has none.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        images = safetensors.torch.load(path.read_bytes())["images"]
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise ArtifactError(f"{path} is damaged: {error}. Unpack model.tar.gz again.") from error
    if images.dtype != torch.uint8 or images.dim() != 4 or not len(images):
        raise ArtifactError(f"{path} is damaged: it holds {images.dtype} of shape {tuple(images.shape)}.")
    return images
