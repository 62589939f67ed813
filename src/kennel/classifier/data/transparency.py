"""What a file calls transparent is shown on white: an alpha band, a palette's alpha, or one colour of a PNG (tRNS).

Needs Pillow and numpy only.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_KEY = "transparency"  # Pillow's name in `info`: a palette's number or alphas, or a colour of a grey or RGB image
_BACKGROUND = "white"  # what shows through, as on a page
_DEEP = "RGB;16B"  # Pillow keeps the upper byte of each of these samples
_LOWER = "RGB;16L"  # read as if the bytes were the other way round, it keeps the lower one
_SCALES = {"L;2": (0x03, 0x55), "L;4": (0x0F, 0x11), "L": (0xFF, 1), "RGB": (0xFF, 1)}  # mask, and factor up to 255


def is_transparent(image: Image.Image) -> bool:
    """Whether an opened image says of any of its pixels or colours that it is not opaque."""
    return image.mode in _ALPHA or _KEY in image.info


def scale_key(image: Image.Image) -> None:
    """Bring the colour that an opened PNG calls transparent to the range that Pillow brings its pixels to.

    PNG has it in 16 bits whatever the depth, of which only the lower ones count (PNG, third edition, 11.3.1.1).
    """
    key = image.info.get(_KEY)
    if key is None:
        return
    mask, factor = _SCALES.get(_raw_mode(image), (0xFFFF, 1))
    if isinstance(key, tuple):
        image.info[_KEY] = tuple((value & mask) * factor for value in key)
    elif image.mode == "L":
        image.info[_KEY] = (key & mask) * factor
    elif image.mode == "P" and isinstance(key, bytes):
        image.info[_KEY] = key[:256]
    elif image.mode == "P" and key > 255:  # behind the palette's last colour
        del image.info[_KEY]


def lower_bits(image: Image.Image) -> Image.Image | None:
    """The lower bytes of an opened PNG of 48 bits that has a transparent colour, which all 48 decide; else None.

    To be asked before the image is loaded.
    """
    file = getattr(image, "fp", None)
    if _KEY not in image.info or _raw_mode(image) != _DEEP or not isinstance(file, io.BytesIO):
        return None
    twin = Image.open(io.BytesIO(file.getvalue()), formats=("PNG",))
    twin.tile = [tile._replace(args=_LOWER) for tile in twin.tile]
    twin.load()
    return twin


def _raw_mode(image: Image.Image) -> str:
    """How the samples lie in the file; empty for other formats than PNG and for pixels that are loaded."""
    tiles = getattr(image, "tile", [])
    return str(tiles[0].args) if image.format == "PNG" and tiles else ""


def has_alpha(image: Image.Image) -> bool:
    """Whether each pixel, or each colour of the palette, has an alpha of its own."""
    return image.mode in _ALPHA or (image.mode == "P" and _KEY in image.info)


def blend(image: Image.Image) -> Image.Image:
    """An image that has alpha, on white, as RGB."""
    if image.mode == "La":  # Pillow knows no direct way
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, _BACKGROUND), rgba).convert("RGB")


def whiten(rgb: Image.Image, image: Image.Image, lower: Image.Image | None) -> Image.Image:
    """White where the image has the colour that its file calls transparent; without such a colour as it is.

    Args:
        rgb: the image as RGB.
        image: what was loaded, of mode 1, L, I;16 or RGB.
        lower: what `lower_bits` said of it.
    """
    key = image.info.get(_KEY)
    if key is None:
        return rgb
    key = np.asarray(key)
    samples = np.asarray(image.convert("L") if image.mode == "1" else image)
    is_key = _equal(samples, key) if lower is None else _equal(samples, key >> 8) & _equal(np.asarray(lower), key & 255)
    pixels = np.array(rgb)
    pixels[is_key] = 255
    return Image.fromarray(pixels)


def _equal(samples: NDArray[np.generic], key: NDArray[np.generic]) -> NDArray[np.bool_]:
    same = samples == key
    return np.asarray(same.all(axis=2) if same.ndim == 3 else same)
