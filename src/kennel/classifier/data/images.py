"""From bytes to upright RGB: which files are photos, and what is wrong with one that is not.

Needs Pillow and numpy only, so that the data check on your machine says what the trainer will say.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from kennel.classifier.data.notes import UPRIGHT, Notes, split_notes
from kennel.classifier.data.transparency import blend, has_alpha, lower_bits, scale_key, whiten
from kennel.contract.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")  # a phone camera's JPEG pair (MPO) opens as JPEG
MAX_PIXELS = 89_478_485  # Pillow's own warning limit: 256 MiB of RGB
_ORIENTATION = "kennel_orientation"  # in an opened image's `info`
_TURNS = {  # what undoes each orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

Source = bytes | Path | NDArray[np.uint8]  # an encoded image, its file, or pixels of shape (H, W, 1, 3 or 4)
Image.init()  # registers every format; without it `formats` may name one that is not known yet
Image.MAX_IMAGE_PIXELS = None  # `read_header` refuses by MAX_PIXELS before a pixel is decoded, without a warning


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """The one place where what Pillow raises becomes a refusal; its readers raise nearly anything."""
    # Not `catch_warnings`: it changes the whole process, and threads decode side by side.
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # a broken note is no reason to refuse good pixels
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not an image of a known format ({', '.join(FORMATS)})") from None
    except MemoryError as error:
        raise ImageError(f"{what}: it needs more memory than there is") from error
    except Exception as error:
        raise ImageError(f"{what}: {error or type(error).__name__}") from error


def read_header(source: Source) -> Image.Image:
    """Open an image without decoding it; its size and format are known afterwards.

    Raises:
        ImageError: not an image, of a format that is not taken, or of more than MAX_PIXELS pixels.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(source[:, :, 0] if source.shape[2] == 1 else source))
    data, notes = split_notes(source if isinstance(source, bytes) else _read(source))
    with _refusing("not a readable image"):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.info[_ORIENTATION] = _find_orientation(image, data, notes)
        scale_key(image)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}x{height} pixels are more than the limit of {MAX_PIXELS}; scale the image down")
    return image


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error


def _find_orientation(image: Image.Image, data: bytes, notes: Notes) -> int:
    if image.format == "TIFF":
        image.load_end = lambda: None  # type: ignore[attr-defined]  # Pillow's own turns the pixels by all of the EXIF
        notes = Notes(data, _as_bytes(image.info.get("xmp")))
    elif image.format == "WEBP":
        notes = Notes(_as_bytes(image.info.get("exif")), _as_bytes(image.info.get("xmp")))
    return notes.orientation()


def _as_bytes(value: object) -> bytes:
    """A broken note may be of any type."""
    return value if isinstance(value, bytes) else b""


def is_turned(image: Image.Image) -> bool:
    """Whether an opened image does not lie as it is to be shown."""
    return _orientation(image) != UPRIGHT


def _orientation(image: Image.Image) -> int:
    return int(image.info.get(_ORIENTATION, UPRIGHT))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as a viewer shows them: EXIF orientations 5 to 8 lie on their side."""
    width, height = image.size
    if image.format == "TIFF" and image.tag_v2.get(0x0112) in _SIDEWAYS:  # type: ignore[attr-defined]
        width, height = height, width  # as the file has it: Pillow has swapped them
    return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def decode(image: Image.Image, *, scale: float = 1.0) -> Image.Image:
    """Decode an opened image to upright 8-bit RGB.

    Args:
        image: what `read_header` returned.
        scale: how much the caller will shrink the image (1: not at all). Large JPEGs are decoded at 1/2, 1/4 or
            1/8 of their size when that still is at least `scale` of it (libjpeg's scaled inverse DCT).

    Raises:
        ImageError: the pixels are truncated, damaged or of a kind that has no single meaning as a photo.
    """
    with _refusing("damaged image"):
        if scale < 1.0:
            image.draft(None, (max(1, int(image.width * scale)), max(1, int(image.height * scale))))
        lower = lower_bits(image)
        image.load()
        turn = _TURNS.get(_orientation(image))
        # Pillow's TIFF has the sides of one that it has turned itself; a copy has its own.
        rgb = _to_rgb(image.copy() if image.format == "TIFF" else image, lower)
        return rgb if turn is None else rgb.transpose(turn)


def _to_rgb(image: Image.Image, lower: Image.Image | None) -> Image.Image:
    if image.mode == "F":
        raise ImageError("32-bit float pixels have no fixed white; convert the image to 8 or 16 bits")
    if has_alpha(image):
        return blend(image)
    return whiten(_opaque(image), image, lower)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: keep the upper eight bits of the range, not the lower
        pixels = np.asarray(image).astype(np.int64)
        return Image.fromarray((pixels.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
