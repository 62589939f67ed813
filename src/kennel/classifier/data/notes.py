"""What lies beside the pixels in a JPEG or PNG: taken out before Pillow sees the file. One number in it counts.

Pillow reads all of it while it opens a file, and a broken profile, comment or thumbnail would cost the photo.
Standard library only.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

UPRIGHT = 1
_ORIENTATION = 0x0112  # EXIF 2.32, table 4: 1 to 8, upright and its seven turns and mirrors
_WHOLE = {3: "H", 4: "I"}  # TIFF's SHORT and LONG; no other type can hold the number
_MOST_ENTRIES = 65_535
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_TEXT = 1 << 20  # bytes of an unpacked PNG text; the same as Pillow's
# libjpeg tells colours by the first of APP0 and APP14 when they are as long as they ought to be. Nothing else counts.
_COLOURS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
_APPLICATION, _COMMENT, _SCAN = range(0xE0, 0xF0), 0xFE, 0xDA
_ALONE = (0x00, 0x01, *range(0xD0, 0xDA))  # JPEG markers without a length


@dataclass
class Notes:
    """The parts that may tell how a photo lies."""

    exif: bytes = b""  # a TIFF, or whatever stands in its place
    xmp: bytes = b""

    def orientation(self) -> int:
        """1 to 8; 1 where nothing says otherwise, or something that cannot be understood does."""
        found = read_orientation(re.sub(rb"^(Exif\0\0){1,2}", b"", self.exif))
        if found is None and (match := _XMP_ORIENTATION.search(self.xmp)):
            found = int(match[1])
        return found if found is not None and 1 <= found <= 8 else UPRIGHT


def read_orientation(tiff: bytes) -> int | None:
    """The entry Orientation of a TIFF's first directory; None when there is no entry of this name, or no directory.

    An entry that is not one whole number says nothing: 0.
    """
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    is_big = 43 in tiff[2:4]  # BigTIFF
    head, start = ("Q", 8) if is_big else ("I", 4)
    number, entry = ("Q", "HHQ") if is_big else ("H", "HHI")
    number_bytes, entry_bytes = struct.calcsize(f"={number}"), 20 if is_big else 12
    try:
        place = struct.unpack_from(order + head, tiff, start)[0]
        entries = struct.unpack_from(order + number, tiff, place)[0]
        for index in range(min(entries, _MOST_ENTRIES)):
            own = place + number_bytes + index * entry_bytes
            tag, kind, count = struct.unpack_from(order + entry, tiff, own)
            if tag == _ORIENTATION:
                value = own + struct.calcsize(f"={entry}")
                is_one = kind in _WHOLE and count == 1
                return int(struct.unpack_from(order + _WHOLE[kind], tiff, value)[0]) if is_one else 0
    except (struct.error, OverflowError):  # a place behind the end
        pass
    return None


def split_notes(data: bytes) -> tuple[bytes, Notes]:
    """A file without its notes, and the notes; any other format than JPEG and PNG comes back as it is.

    Of a PNG the critical chunks and the transparency stay, so an animated one becomes its first picture.
    """
    notes = Notes()
    split = _split_png if data.startswith(_PNG) else _split_jpeg if data.startswith(b"\xff\xd8\xff") else None
    if split is None:
        return data, notes
    kept = list(split(data, notes))
    return (data if sum(map(len, kept)) == len(data) else b"".join(kept)), notes


def _split_jpeg(data: bytes, notes: Notes) -> Iterator[memoryview]:
    view, place = memoryview(data), 2
    yield view[:2]
    while (marker := data.find(b"\xff", place)) >= 0 and marker + 4 <= len(data):
        place, code = marker, data[marker + 1]
        if code == 0xFF:  # padding
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if code in _ALONE or code == _SCAN or end < place + 4 or end > len(data):
            break
        body = data[place + 4 : end]
        if _is_for_pixels(code, body):
            yield view[place:end]
        elif code == 0xE1 and body.startswith(_EXIF):
            notes.exif += body[len(_EXIF) :]  # one that is longer than 64 KiB goes on in the next
        elif code == 0xE1 and body.startswith(_XMP):
            notes.xmp = body[len(_XMP) :]
        place = end
    yield view[place:]


def _is_for_pixels(code: int, body: bytes) -> bool:
    name, length = _COLOURS.get(code, (b"", 0))
    return (code not in _APPLICATION and code != _COMMENT) or (
        bool(name) and body[: len(name)] == name and len(body) >= length
    )


def _split_png(data: bytes, notes: Notes) -> Iterator[memoryview]:
    view, place = memoryview(data), len(_PNG)
    yield view[:place]
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if end > len(data) or not kind.isalpha():
            break
        if not kind[0] & 0x20 or kind == b"tRNS":  # a small first letter: a program may do without
            yield view[place:end]
        else:
            _read_chunk(kind, data[place + 8 : end - 4], notes)
        place = end
        if kind == b"IEND":
            return
    yield view[place:]


def _read_chunk(kind: bytes, body: bytes, notes: Notes) -> None:
    """Take what may tell the orientation: a chunk of its own, or a text, as older programs write it."""
    if kind == b"eXIf":
        notes.exif = body
        return
    name, _, rest = body.partition(b"\0")
    if name in (b"exif", b"Raw profile type exif") and kind in (b"tEXt", b"zTXt", b"iTXt") and not notes.exif:
        text = _text(kind, rest)
        notes.exif = text if name == b"exif" else _from_hex(text)
    elif name == b"XML:com.adobe.xmp" and kind == b"iTXt":
        notes.xmp = _text(kind, rest)


def _text(kind: bytes, rest: bytes) -> bytes:
    """A text behind its name; empty when it cannot be unpacked."""
    if kind == b"tEXt":
        return rest
    is_packed, packed = True, rest[1:]
    if kind == b"iTXt":  # behind the two flags: language and translated name
        is_packed, packed = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    if not is_packed:
        return packed
    try:
        return zlib.decompressobj().decompress(packed, _MOST_TEXT)
    except zlib.error:
        return b""


def _from_hex(text: bytes) -> bytes:
    """ImageMagick's profiles: a line break, a name, a length, and hexadecimal lines."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""
