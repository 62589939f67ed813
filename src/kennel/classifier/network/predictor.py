"""A loaded artifact that answers: the one path from a photo to probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kennel.classifier.data.images import Source
from kennel.classifier.data.preprocess import evaluation_tensor, normalise
from kennel.classifier.network.artifact import Meta, load_artifact


@dataclass(frozen=True)
class Prediction:
    """One line of a top-k list."""

    label: str
    class_name: str
    probability: float


@dataclass(frozen=True)
class Predictor:
    """A network in evaluation mode with its own description."""

    model: nn.Module
    meta: Meta
    device: torch.device

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Predictor:
        """Load an artifact folder onto a device (the GPU if there is one).

        Raises:
            ArtifactError: see `load_artifact`.
        """
        device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model, meta = load_artifact(folder)
        return cls(model.to(device), meta, device)

    def tensor(self, source: Source) -> torch.Tensor:
        """The network's view of a photo: uint8, shape (3, crop_px, crop_px). Raises ImageError."""
        return evaluation_tensor(source, self.meta.preprocessing)

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """The network's raw outputs: float32 on its device, shape (N, classes).

        Args:
            batch: uint8, shape (N, 3, crop_px, crop_px).
        """
        return self.model(normalise(batch.to(self.device), self.meta.preprocessing)).float()  # type: ignore[no-any-return]

    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        """Class probabilities: float32 on the CPU, shape (N, classes); rows sum to 1."""
        return torch.softmax(self.logits(batch), dim=1).cpu()

    def top(self, probabilities: torch.Tensor, k: int) -> list[Prediction]:
        """The k most probable classes of one row, most probable first (all of them when k is larger)."""
        values, order = probabilities.topk(min(k, len(self.meta.classes)))
        return [
            Prediction(self.meta.labels[i], self.meta.classes[i], value)
            for i, value in zip(order.tolist(), values.tolist(), strict=True)
        ]
