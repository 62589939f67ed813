"""From bytes to upright RGB: which files are photos, and what is wrong with one that is not.

Needs Pillow and numpy only, so that the data check on your machine says what the trainer will say.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kennel.classifier.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")  # a phone camera's JPEG pair (MPO) opens as JPEG
MAX_PIXELS = 89_478_485  # Pillow's own warning limit: 256 MiB of RGB
_BACKGROUND = "white"  # what shows through transparent pixels, as on a page
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, zlib.error)

Source = bytes | Path | NDArray[np.uint8]  # an encoded image, its file, or pixels of shape (H, W, 1, 3 or 4)
Image.init()  # registers every format; without it `formats` may name one that is not known yet
Image.MAX_IMAGE_PIXELS = None  # `read_header` refuses by MAX_PIXELS before a pixel is decoded, without a warning


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
