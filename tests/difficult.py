"""Photos with something wrong beside their pixels, or with an unusual way to say "transparent", byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

RATIONAL, SRATIONAL, ASCII, BYTE, SHORT, LONG = 5, 10, 2, 1, 3, 4
ORIENTATION, MAKE, RESOLUTION, EXIF_IFD = 0x0112, 0x010F, 0x011A, 0x8769
Entry = tuple[int, int, int, bytes]  # tag, type, count, and four bytes: the value, or where it is


def picture(width: int = 48, height: int = 32, seed: int = 5) -> Image.Image:
    """Large soft patches: every place has its own colour, and JPEG keeps them."""
    patches = np.random.default_rng(seed).integers(40, 220, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file of an image as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff_head(entries: Iterable[Entry], *, order: str = "<", following: int = 0, tail: bytes = b"") -> bytes:
    """A TIFF's header and first directory, at 8."""
    rows = [struct.pack(f"{order}HHI", tag, kind, count) + value for tag, kind, count, value in entries]
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HIH", 42, 8, len(rows))
    return head + b"".join(rows) + struct.pack(f"{order}I", following) + tail


def orientation(value: int, *, kind: int = SHORT, count: int = 1, order: str = "<") -> Entry:
    """The entry that tells how a photo lies."""
    packed = struct.pack(f"{order}HH", value, value) if kind == SHORT else struct.pack(f"{order}I", value)
    return ORIENTATION, kind, count, packed


def exif(*entries: Entry, **options: object) -> bytes:
    """EXIF as a camera writes it."""
    return b"Exif\0\0" + tiff_head(entries, **options)  # type: ignore[arg-type]


def chunk(kind: bytes, body: bytes, *, crc_off_by: int = 0) -> bytes:
    """A chunk of a PNG."""
    crc = (zlib.crc32(kind + body) + crc_off_by) & 0xFFFFFFFF
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png(depth: int, colour: int, rows: list[bytes], *extra: bytes, width: int = 2) -> bytes:
    """A PNG of so many rows of samples, without filters; `extra` are chunks in front of the pixels."""
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def trns(*values: int) -> bytes:
    """The chunk of the grey or RGB value that is transparent."""
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def with_chunks(data: bytes, *chunks: bytes, at_end: bool = False) -> bytes:
    """A PNG with chunks behind its header, or behind its pixels."""
    place = len(data) - 12 if at_end else 33
    return data[:place] + b"".join(chunks) + data[place:]


def segment(code: int, body: bytes) -> bytes:
    """A marker segment of a JPEG."""
    return bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments behind its first marker."""
    return data[:2] + b"".join(segments) + data[2:]


def tiff(size: tuple[int, int], samples: bytes, bands: int, *extra: Entry, grey: bool = False, alpha: int = 0) -> bytes:
    """An uncompressed TIFF of 8 bits a sample; `alpha` is the value of ExtraSamples (1: premultiplied, 2: not)."""
    width, height = size

    def short(tag: int, *values: int) -> Entry:
        return tag, SHORT, len(values), struct.pack("<2H", *values, *[0] * (2 - len(values)))

    entries = [short(256, width), short(257, height), short(258, 8), short(259, 1), short(262, 1 if grey else 2)]
    entries += [short(277, bands), short(278, height), (279, LONG, 1, struct.pack("<I", len(samples)))]
    entries += [short(338, alpha)] if alpha else []
    number = len(entries) + 1 + len(extra)
    entries.append((273, LONG, 1, struct.pack("<I", 8 + 2 + 12 * number + 4)))
    return tiff_head(sorted([*entries, *extra]), tail=samples)


def far(tag: int, kind: int, count: int = 1, place: int = 0xFFFFFF) -> Entry:
    """An entry whose value lies behind the end."""
    return tag, kind, count, struct.pack("<I", place)


def unwritable(value: bytes) -> bytes:
    """EXIF with orientation 6 and entries that Pillow reads and cannot write: no text, and a negative rational."""
    place = 8 + 2 + 3 * 12 + 4
    where = struct.pack("<I", place)
    entries = [(MAKE, RATIONAL, 1, where), orientation(6), (RESOLUTION, SRATIONAL, 1, where)]
    return exif(*entries, tail=value)


def broken_exif() -> dict[str, tuple[bytes, int]]:
    """EXIF with something wrong in it, and the orientation that counts all the same."""
    minus = struct.pack("<ii", -3, 7)
    return {
        "unwritable": (unwritable(minus), 6),
        "divided by nothing": (unwritable(struct.pack("<ii", 5, 0)), 6),
        "value far behind": (exif(far(MAKE, ASCII, 40), orientation(6)), 6),
        "gigantic count": (exif(far(MAKE, ASCII, 0xFFFFFFFF), orientation(6)), 6),
        "unknown type": (exif((MAKE, 99, 1, b"abcd"), orientation(6)), 6),
        "endless directories": (exif(orientation(6), (EXIF_IFD, LONG, 1, b"\x08\0\0\0"), following=8), 6),
        "directory behind the end": (exif(orientation(6), far(EXIF_IFD, LONG)), 6),
        "thumbnail behind the end": (exif(orientation(6), following=0xFFFFFFF0), 6),
        "big-endian": (exif(orientation(6, order=">"), order=">"), 6),
        "twice the name": (b"Exif\0\0" + exif(orientation(6)), 6),
        "more entries than there are": (exif(orientation(6))[:14] + b"\xff\xff" + exif(orientation(6))[16:], 6),
        "no tiff": (b"Exif\0\0no tiff at all", 1),
        "nothing": (b"Exif\0\0", 1),
        "half a header": (exif(orientation(6))[:11], 1),
        "cut in its entry": (exif(orientation(6))[:22], 1),
        "first directory far behind": (b"Exif\0\0II*\0\xf0\xff\xff\xff", 1),
        "orientation 0": (exif(orientation(0)), 1),
        "orientation 9": (exif(orientation(9)), 1),
        "orientation 65535": (exif(orientation(65_535)), 1),
        "orientation as text": (exif((ORIENTATION, ASCII, 2, b"6\0\0\0")), 1),
        "orientation as a fraction": (exif(far(ORIENTATION, RATIONAL)), 1),
        "orientation as a byte": (exif((ORIENTATION, BYTE, 1, b"\6\0\0\0")), 1),
        "two orientations": (exif(orientation(6, count=2)), 1),
        "no orientation": (exif(orientation(6, count=0)), 1),
        "countless orientations": (exif(far(ORIENTATION, SHORT, 0xFFFFFFFF)), 1),
        "long orientation": (exif(orientation(6, kind=LONG)), 6),
    }


def packed_text(kind: bytes, size: int) -> bytes:
    """A PNG's compressed comment of so many bytes."""
    packed = zlib.compress(b"a" * size)
    return chunk(kind, (b"Comment\0\0" if kind == b"zTXt" else b"Comment\0\1\0\0\0") + packed)


def broken_chunks() -> dict[str, bytes]:
    """Chunks that say nothing of the pixels, each with a fault."""
    return {
        "exif that is no tiff": chunk(b"eXIf", b"no tiff at all"),
        "empty exif": chunk(b"eXIf", b""),
        "profile unpacks to nothing": chunk(b"iCCP", b"icc\0\0not zlib"),
        "profile of an unknown packing": chunk(b"iCCP", b"icc\0\x07" + zlib.compress(b"x")),
        "profile without a body": chunk(b"iCCP", b""),
        "profile over the limit": chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"\0" * (3 << 20))),
        "text over the limit": packed_text(b"zTXt", 3 << 20),
        "international text over the limit": packed_text(b"iTXt", 3 << 20),
        "many texts": packed_text(b"zTXt", 1 << 20) * 70,
        "text of an unknown packing": chunk(b"zTXt", b"Comment\0\x07abc"),
        "text with a wrong sum": chunk(b"tEXt", b"Comment\0hello", crc_off_by=1),
        "text that takes the place of a setting": chunk(b"tEXt", b"transparency\0yes")
        + chunk(b"tEXt", b"interlace\0x"),
        "profile of ImageMagick without hexadecimals": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nzzzz"),
        "broken xmp": chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0tiff:Orientation="\xff<<'),
        "short gamma": chunk(b"gAMA", b"\0"),
        "short density": chunk(b"pHYs", b"\0"),
        "short white point": chunk(b"cHRM", b"\0"),
        "short intent": chunk(b"sRGB", b""),
        "animation without frames": chunk(b"acTL", struct.pack(">II", 0, 0)),
        "animation cut short": chunk(b"acTL", b"\0"),
        "frame out of turn": chunk(b"acTL", struct.pack(">II", 2, 0))
        + chunk(b"fcTL", struct.pack(">I", 9) + b"\0" * 22),
    }


def broken_segments() -> dict[str, bytes]:
    """Segments that say nothing of the pixels, each with a fault."""
    return {
        "short jfif": segment(0xE0, b"JFIF\0"),
        "short adobe": segment(0xEE, b"Adobe\0"),
        "short photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10"),
        "photoshop resolution cut": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x02\0\0"),
        "profile without a number": segment(0xE2, b"ICC_PROFILE\0"),
        "profiles that do not fit": segment(0xE2, b"ICC_PROFILE\0\x09\x02abc") * 2,
        "pictures that are none": segment(0xE2, b"MPF\0" + b"II*\0\x08\0\0\0\xff\xff"),
        "pictures without a list": segment(0xE2, b"MPF\0" + tiff_head([(0xB001, LONG, 1, b"\x02\0\0\0")])),
        "pictures of another number": segment(
            0xE2, b"MPF\0" + tiff_head([(0xB001, LONG, 1, b"\x05\0\0\0"), (0xB002, 7, 16, b"\x08\0\0\0")])
        ),
        "broken xmp": segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0tiff:Orientation="\xff<<'),
        "flashpix": segment(0xE2, b"FPXR\0"),
        "empty comment": segment(0xFE, b""),
    }
