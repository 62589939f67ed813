"""Every way in which a file says "transparent" is shown on white, to the sample, and told by the data check."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kennel.classifier.data.images import decode, read_header
from kennel.driver.checks.datacheck import check
from kennel.driver.session.reporting import Silent
from tests.difficult import chunk, encode, png, tiff, trns

pytestmark = pytest.mark.pure

WHITE = [255, 255, 255]
PALETTE = chunk(b"PLTE", bytes([1, 2, 3, 101, 102, 103]))


def grey(value: int) -> list[int]:
    return [value] * 3


def tuned(kind: str, **options: object) -> bytes:
    """Two large halves, the left one transparent; alpha survives compression that loses colours."""
    clear = Image.new("RGBA", (64, 32), (200, 0, 0, 0))
    clear.paste((100, 100, 100, 255), (32, 0, 64, 32))
    return encode(clear, kind, **options)


def bmp(samples: bytes) -> bytes:
    """Two pixels of blue, green, red and alpha, with the header that names the bits of each (BITMAPV4HEADER)."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, len(samples), 2835, 2835, 0, 0) + masks
    head = head.ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + 108 + len(samples), 0, 0, 14 + 108) + head + samples


# A file, and the RGB of its first and last pixel.
FILES: dict[str, tuple[bytes, list[int], list[int]]] = {
    "grey 1 bit, black": (png(1, 0, [b"\x40"], trns(0)), WHITE, WHITE),
    "grey 1 bit, white": (png(1, 0, [b"\x40"], trns(1)), grey(0), WHITE),
    "grey 2 bits": (png(2, 0, [b"\x60"], trns(1)), WHITE, grey(170)),
    "grey 4 bits": (png(4, 0, [b"\x7a"], trns(7)), WHITE, grey(170)),
    "grey 8 bits": (png(8, 0, [b"\x07\x08"], trns(7)), WHITE, grey(8)),
    "grey 8 bits, upper byte is void": (png(8, 0, [b"\x07\x08"], trns(0xFF07)), WHITE, grey(8)),
    "grey 16 bits": (png(16, 0, [b"\x08\x01\x0c\x0c"], trns(0x0801)), WHITE, grey(12)),
    "grey 16 bits, all of them count": (png(16, 0, [b"\x0c\x0d\x0c\x0c"], trns(0x0C0D)), WHITE, grey(12)),
    "rgb 8 bits": (png(8, 2, [b"\1\2\3\4\5\6"], trns(1, 2, 3)), WHITE, [4, 5, 6]),
    "rgb 8 bits, all bands count": (png(8, 2, [b"\1\2\3\1\2\4"], trns(1, 2, 3)), WHITE, [1, 2, 4]),
    "rgb 8 bits, upper byte is void": (png(8, 2, [b"\1\2\3\4\5\6"], trns(0x101, 2, 3)), WHITE, [4, 5, 6]),
    "rgb 16 bits": (png(16, 2, [b"\1\2\3\4\5\6\7\2\3\4\5\6"], trns(0x102, 0x304, 0x506)), WHITE, [7, 3, 5]),
    "rgb 16 bits, all of them count": (
        png(16, 2, [b"\1\2\3\4\5\6\1\1\3\4\5\6"], trns(0x102, 0x304, 0x506)), WHITE, [1, 3, 5],
    ),
    "palette, one colour": (png(8, 3, [b"\0\1"], PALETTE, chunk(b"tRNS", b"\0")), WHITE, [101, 102, 103]),
    "palette, alphas": (png(8, 3, [b"\0\1"], PALETTE, chunk(b"tRNS", b"\0\x80")), WHITE, [178, 178, 179]),
    "palette, 2 bits": (png(2, 3, [b"\x10"], PALETTE, chunk(b"tRNS", b"\0")), WHITE, [101, 102, 103]),
    "palette, more alphas than colours": (
        png(8, 3, [b"\0\1"], PALETTE, chunk(b"tRNS", b"\0\xfe" * 150)), WHITE, [102, 103, 104],
    ),
    "palette, one colour behind the last": (
        png(8, 3, [b"\0\1"], PALETTE, chunk(b"tRNS", b"\xff" * 300 + b"\0")), [1, 2, 3], [101, 102, 103],
    ),
    "grey and alpha": (png(8, 4, [b"\1\0\2\xff"]), WHITE, grey(2)),
    "grey and alpha 16 bits": (png(16, 4, [b"\1\2\0\0\2\2\xff\xff"]), WHITE, grey(2)),
    "rgba": (png(8, 6, [b"\1\2\3\0\4\5\6\xff"]), WHITE, [4, 5, 6]),
    "rgba 16 bits": (png(16, 6, [b"\1\2\1\2\1\2\0\0\4\2\5\2\6\2\xff\xff"]), WHITE, [4, 5, 6]),
    "tiff, alpha": (tiff((2, 1), b"\1\2\3\0\4\5\6\xff", 4, alpha=2), WHITE, [4, 5, 6]),
    "tiff, half": (tiff((2, 1), b"\0\0\0\x80\4\5\6\xff", 4, alpha=2), grey(127), [4, 5, 6]),
    "tiff, premultiplied": (tiff((2, 1), b"\0\0\0\0\4\5\6\xff", 4, alpha=1), WHITE, [4, 5, 6]),
    "tiff, premultiplied half": (tiff((2, 1), b"\0\0\0\x80\4\5\6\xff", 4, alpha=1), grey(127), [4, 5, 6]),
    "tiff, grey and alpha": (tiff((2, 1), b"\1\0\2\xff", 2, grey=True, alpha=2), WHITE, grey(2)),
    "tiff, grey and alpha premultiplied": (tiff((2, 1), b"\0\0\2\xff", 2, grey=True, alpha=1), WHITE, grey(2)),
    "webp": (tuned("WEBP", lossless=True), WHITE, grey(100)),
    "webp, lossy": (tuned("WEBP", quality=95), WHITE, grey(100)),
    "webp, animated": (
        tuned("WEBP", lossless=True, save_all=True, append_images=[Image.new("RGBA", (64, 32), "red")]),
        WHITE, grey(100),
    ),
    "apng": (tuned("PNG", save_all=True, append_images=[Image.new("RGBA", (64, 32), "red")]), WHITE, grey(100)),
    "bmp": (bmp(b"\3\2\1\0\6\5\4\xff"), WHITE, [4, 5, 6]),
}  # fmt: skip
OPAQUE = {"palette, one colour behind the last"}  # nothing in it is transparent


@pytest.mark.parametrize("name", FILES)
def test_what_is_transparent_shows_white(name: str) -> None:
    data, first, last = FILES[name]
    pixels = np.asarray(decode(read_header(data)))
    tolerance = 3 if "lossy" in name else 0
    assert abs(pixels[0, 0].astype(int) - first).max() <= tolerance
    assert abs(pixels[-1, -1].astype(int) - last).max() <= tolerance


@pytest.mark.parametrize("name", FILES)
def test_the_data_check_tells_it_in_the_same_words(name: str, photos: Path) -> None:
    (photos / "red/clear").write_bytes(FILES[name][0])
    told = [f.text for f in check(photos, Silent()).findings if "such as red/clear" in f.text]
    words = "transparency; it is shown on white)"
    assert [words in text for text in told] == ([False] if name in OPAQUE else [True])


def test_a_colour_is_transparent_however_the_photo_lies_and_is_read() -> None:
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:2, :3] = 9
    data = encode(Image.fromarray(wide), "PNG", transparency=(9, 9, 9), exif=_turned())
    pixels = np.asarray(decode(read_header(data), scale=1 / 8))
    assert pixels.shape == (16, 8, 3)
    assert (pixels[:3, -2:] == 255).all()
    assert pixels.sum() == 6 * 3 * 255


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_deep_colours_are_told_apart_by_all_their_bits() -> None:
    """Each sample is read twice, once for either byte."""
    rng = np.random.default_rng(2)
    samples = rng.integers(0, 3, (9, 11, 3)).astype(np.uint16) * 0x101 + rng.integers(0, 2, (9, 11, 3))
    key = tuple(int(value) for value in samples[4, 5])
    data = png(16, 2, [row.tobytes() for row in samples.astype(">u2")], trns(*key), width=11)
    pixels = np.asarray(decode(read_header(data)))
    is_key = (samples == key).all(axis=2)
    assert 1 <= is_key.sum() < 20
    assert (pixels[is_key] == 255).all()
    assert (pixels[~is_key] == samples[~is_key] >> 8).all()
