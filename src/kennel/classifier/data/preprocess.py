"""From a photo to the tensor that the network sees: the only file that spells mean and std.

Trainer and handler both come through `decode`, `centre_box` and `crop_to_tensor`, so what a photo looks like
to the network cannot differ between training and serving.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from kennel.classifier.data.images import Source, decode, read_header, upright_size
from kennel.classifier.data.vision import torchvision
from kennel.contract.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

Box = tuple[float, float, float, float]  # left, upper, right, lower in pixels


@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes the network's input; travels inside the artifact."""

    resize_px: int  # the shorter side is scaled to this ...
    crop_px: int  # ... and the centre square of this side is cut out
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"

    @classmethod
    def for_arch(cls, arch: str, *, resize_px: int = 0, crop_px: int = 0) -> Preprocessing:
        """The values of the architecture's published weights; sides that are not 0 replace theirs.

        When only the crop is given, the resize keeps the published ratio of the two.

        Raises:
            ConfigError: the crop would be larger than the resized photo.
        """
        published = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
        own_resize, own_crop = published.resize_size[0], published.crop_size[0]
        crop = crop_px or min(own_crop, resize_px or own_crop)
        resize = resize_px or max(crop, round(crop * own_resize / own_crop))
        if crop > resize:
            raise ConfigError([f"crop_px is {crop}, more than resize_px, {resize}. Raise resize_px or lower crop_px."])
        return cls(resize, crop, tuple(published.mean), tuple(published.std), published.interpolation.value)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocessing:
        """Read back what `to_json` wrote."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def to_json(self) -> dict[str, Any]:
        """Plain values for meta.json."""
        return asdict(self)


def centre_box(size: tuple[int, int], preprocessing: Preprocessing) -> Box:
    """The square that the evaluation crop covers, in pixels of an upright image of this size.

    Scaling the shorter side to `resize_px` and cutting the centre `crop_px` is the same as cutting this box and
    scaling it to `crop_px`, with one resampling less.
    """
    width, height = size
    side = min(width, height) * preprocessing.crop_px / preprocessing.resize_px
    left, upper = (width - side) / 2, (height - side) / 2
    return (left, upper, left + side, upper + side)


def crop_to_tensor(image: Image.Image, box: Box, preprocessing: Preprocessing) -> torch.Tensor:
    """Decode the part of an opened image that `box` names and scale it to the network's square.

    Returns:
        uint8 tensor of shape (3, crop_px, crop_px), RGB, 0 to 255.
    """
    size = upright_size(image)
    side_px = preprocessing.crop_px
    scale = side_px / max(1.0, min(box[2] - box[0], box[3] - box[1]))
    rgb = decode(image, scale=min(1.0, scale))
    fx, fy = rgb.width / size[0], rgb.height / size[1]
    scaled = (box[0] * fx, box[1] * fy, min(box[2] * fx, rgb.width), min(box[3] * fy, rgb.height))
    square = rgb.resize((side_px, side_px), _RESAMPLING[preprocessing.interpolation], box=scaled)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def scale_to_square(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Scale a part of a photo to the network's square: torch's copy of Pillow's filters, at a third of their time.

    For training alone; what is judged and served goes through `crop_to_tensor`.

    Args:
        pixels: uint8, shape (height, width, 3).
        preprocessing: `crop_px` and `interpolation`; Lanczos, which torch does not have, becomes bicubic.

    Returns:
        uint8 tensor of shape (3, crop_px, crop_px), RGB, 0 to 255.
    """
    mode = {"lanczos": "bicubic"}.get(preprocessing.interpolation, preprocessing.interpolation)
    size, smooth = (preprocessing.crop_px, preprocessing.crop_px), mode != "nearest"
    photo = pixels.permute(2, 0, 1).unsqueeze(0)
    return nn.functional.interpolate(photo, size=size, mode=mode, antialias=smooth)[0]


def evaluation_tensor(source: Source, preprocessing: Preprocessing) -> torch.Tensor:
    """The network's view of a photo when nothing is random.

    Returns:
        uint8 tensor of shape (3, crop_px, crop_px), RGB, 0 to 255.

    Raises:
        ImageError: see `read_header` and `decode`.
    """
    with read_header(source) as image:
        return crop_to_tensor(image, centre_box(upright_size(image), preprocessing), preprocessing)


def normalise(batch: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Scale to 0..1, subtract the mean, divide by the standard deviation, on the batch's own device.

    Args:
        batch: uint8, shape (N, 3, H, W).

    Returns:
        float32 of the same shape and memory layout.
    """
    mean = torch.tensor(preprocessing.mean, device=batch.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=batch.device).view(1, 3, 1, 1)
    return batch.float().div_(255.0).sub_(mean).div_(std)
