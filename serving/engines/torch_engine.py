"""torch as an engine: in float32, the reference, and in a lower precision."""

from __future__ import annotations

import copy

import torch
from torch import nn

from kennel.classifier.data.preprocess import normalise
from kennel.classifier.network.predictor import Predictor
from serving.engines.base import Engine


class TorchFloat32(Engine):
    """torch as the trainer evaluates: the reference of every other engine."""

    name = "torch fp32"

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Engine`."""
        return self._predictor.probabilities(batch)


class TorchHalf(Engine):
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
