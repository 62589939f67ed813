"""Grad-CAM: where in a photo the network saw what speaks for a class.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
equations 1 and 2: the channels of the last feature map, weighted by the mean gradient of the class's score, summed,
negative parts cut off.
"""

from __future__ import annotations

import copy
import io
import threading
from typing import Any

import torch
from PIL import Image
from torch import nn

from kennel.classifier.data.preprocess import normalise
from kennel.classifier.network.predictor import Predictor

_STRENGTH = 0.6  # how much of the photo the hottest place covers
_COLOURS = 128  # of the PNG's palette: half the size of full colour, and nobody sees the difference


class ExplanationError(Exception):
    """The network has no feature map at its end."""


class Explainer:
    """Heat maps of one network; one instance serves many threads."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._lock = threading.Lock()
        self._prepared: tuple[nn.Module, str] | None = None
        self._kept = threading.local()

    def heat_map(self, image: torch.Tensor, target: int) -> bytes:
        """A PNG of the network's view of a photo under a red layer, thickest where most speaks for a class.

        Args:
            image: uint8, shape (3, crop_px, crop_px).
            target: index of the class.

        Raises:
            ExplanationError: the network pools no feature map, as a ViT does not.
        """
        return _draw(image, self.weights(image, target))

    def weights(self, image: torch.Tensor, target: int) -> torch.Tensor:
        """The same as numbers: float32, shape (h, w) of the feature map, 0 to 1 (all 0 where nothing speaks for it)."""
        network = self._network()
        with torch.inference_mode(False), torch.enable_grad():
            batch = normalise(image[None].clone().to(self._predictor.device), self._predictor.meta.preprocessing)
            score = network(batch)[0, target]
            features: torch.Tensor = self._kept.features
            (gradient,) = torch.autograd.grad(score, features)
            del self._kept.features
            heat = (gradient.mean((2, 3), keepdim=True) * features).sum(1)[0].detach().clamp_min(0).cpu()
        return heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)

    def _network(self) -> nn.Module:
        """The network with a hook at its last feature map: a copy of its modules over the same weights."""
        with self._lock:
            if self._prepared is None:
                shared = {
                    id(one): one for one in (*self._predictor.model.parameters(), *self._predictor.model.buffers())
                }
                network = copy.deepcopy(self._predictor.model, dict(shared))
                name = last_feature_map(network, self._predictor)
                network.get_submodule(name).register_forward_hook(self._cut)
                self._prepared = network, name
            return self._prepared[0]

    def _cut(self, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """Gradients are computed from here to the end alone; what follows may work in place, hence the copy."""
        self._kept.features = output.detach().requires_grad_()
        return self._kept.features.clone()  # type: ignore[no-any-return]


def last_feature_map(network: nn.Module, predictor: Predictor) -> str:
    """The name of the last module whose output is a map of features: (N, channels, h, w) with h and w above 1.

    Raises:
        ExplanationError: there is none, or tokens that see one another come after it.
    """
    found = ""
    names: dict[nn.Module, str] = {module: name for name, module in network.named_modules() if name}

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal found
        if isinstance(module, nn.MultiheadAttention):
            found = ""
        elif isinstance(output, torch.Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            found = names[module]

    hooks = [module.register_forward_hook(note) for module in names]
    side = predictor.meta.preprocessing.crop_px
    try:
        with torch.inference_mode(False), torch.no_grad():
            network(torch.zeros(1, 3, side, side, device=predictor.device))
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ExplanationError(f"{predictor.meta.arch} has no map of features at its end, so there is no heat map.")
    return found


def _draw(image: torch.Tensor, heat: torch.Tensor) -> bytes:
    side = image.shape[-1]
    smooth = nn.functional.interpolate(heat[None, None], (side, side), mode="bicubic", align_corners=False)[0, 0]
    cover = (smooth.clamp(0, 1) * _STRENGTH)[None]
    hot = torch.stack([torch.ones_like(smooth), smooth.clamp(0, 1) ** 2, torch.zeros_like(smooth)]) * 255
    grey = (
        image.float().mean(0, keepdim=True).expand(3, -1, -1)
    )  # colours of the photo would mix with those of the heat
    pixels = (grey * (1 - cover) + hot * cover).round().clamp(0, 255).to(torch.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
