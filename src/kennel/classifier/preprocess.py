"""From bytes to the tensor that the network sees: the only file that spells mean and std.

Trainer and handler both come through `decode`, `centre_box` and `crop_to_tensor`, so what a photo looks like
to the network cannot differ between training and serving.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import nn

from kennel.classifier.errors import ConfigError, ImageError
from kennel.classifier.vision import torchvision

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")  # a phone camera's JPEG pair (MPO) opens as JPEG
MAX_PIXELS = 89_478_485  # Pillow's own warning limit: 256 MiB of RGB
_BACKGROUND = "white"  # what shows through transparent pixels, as on a page
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, zlib.error)

Box = tuple[float, float, float, float]  # left, upper, right, lower in pixels
Source = bytes | Path | NDArray[np.uint8]  # an encoded image, its file, or pixels of shape (H, W, 1, 3 or 4)
Image.init()  # registers every format; without it `formats` may name one that is not known yet
Image.MAX_IMAGE_PIXELS = None  # `read_header` refuses by MAX_PIXELS before a pixel is decoded, without a warning


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


def read_header(source: Source) -> Image.Image:
    """Open an image without decoding it; its size and format are known afterwards.

    Raises:
        ImageError: not an image, of a format that is not taken, or of more than MAX_PIXELS pixels.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(source[:, :, 0] if source.shape[2] == 1 else source))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken metadata is no reason to refuse good pixels
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"not an image of a known format ({', '.join(FORMATS)})") from None
    except _DECODE_ERRORS as error:
        raise ImageError(f"not a readable image: {error}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}x{height} pixels are more than the limit of {MAX_PIXELS}; scale the image down")
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as a viewer shows them: EXIF orientations 5 to 8 lie on their side."""
    width, height = image.size
    try:
        sideways = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except _DECODE_ERRORS:
        return width, height
    return (height, width) if sideways else (width, height)


def decode(image: Image.Image, *, scale: float = 1.0) -> Image.Image:
    """Decode an opened image to upright 8-bit RGB.

    Args:
        image: what `read_header` returned.
        scale: how much the caller will shrink the image (1: not at all). Large JPEGs are decoded at 1/2, 1/4 or
            1/8 of their size when that still is at least `scale` of it (libjpeg's scaled inverse DCT).

    Raises:
        ImageError: the pixels are truncated, damaged or of a kind that has no single meaning as a photo.
    """
    try:
        if scale < 1.0:
            image.draft(None, (max(1, int(image.width * scale)), max(1, int(image.height * scale))))
        image.load()
        upright = ImageOps.exif_transpose(image)
        return _to_rgb(upright)
    except ImageError:
        raise
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise ImageError(f"damaged image: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16-bit grey: keep the upper eight bits of the range, not the lower
        pixels = np.asarray(image).astype(np.int64)
        return Image.fromarray((pixels.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("32-bit float pixels have no fixed white; convert the image to 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        flat = Image.new("RGBA", rgba.size, _BACKGROUND)
        return Image.alpha_composite(flat, rgba).convert("RGB")
    return image.convert("RGB")


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
