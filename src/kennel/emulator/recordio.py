"""MXNet's RecordIO: how Pipe mode delimits records when RecordWrapperType is RecordIO, and a transform's SplitType.

Source: dmlc-core, include/dmlc/recordio.h. A record is the magic number, a word of a flag (upper 3 bits) and a length
(lower 29 bits), the data, and zeros up to a multiple of 4 bytes. Data that contains the magic number at a multiple of 4
bytes is cut there into parts, and the magic number itself is left out.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import IO

_MAGIC = struct.pack("<I", 0xCED7230A)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_MAX_BYTES = (1 << 29) - 1


def record(data: bytes) -> bytes:
    """One record.

    Raises:
        ValueError: it is larger than RecordIO can say.
    """
    parts = _cut(data)
    if max(map(len, parts)) > _MAX_BYTES:
        raise ValueError(f"{len(data)} bytes are too many for a record; RecordIO has room for {_MAX_BYTES}.")
    if len(parts) == 1:
        return _part(_WHOLE, data)
    flags = [_FIRST, *[_MIDDLE] * (len(parts) - 2), _LAST]
    return b"".join(map(_part, flags, parts))


def _cut(data: bytes) -> list[bytes]:
    parts, start = [], 0
    for found in re.finditer(re.escape(_MAGIC), data):
        if found.start() % 4 == 0:
            parts.append(data[start : found.start()])
            start = found.end()
    return [*parts, data[start:]]


def _part(flag: int, data: bytes) -> bytes:
    return _MAGIC + struct.pack("<I", flag << 29 | len(data)) + data + bytes(-len(data) % 4)


def read_records(stream: IO[bytes], limit_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """The records of a stream, each as it lies there (with its frame) and as its data alone.

    Args:
        stream: of whole records.
        limit_bytes: a larger record is an error.

    Raises:
        ValueError: it is no RecordIO, ends in the middle of a record, or has one that is too large.
    """
    framed, parts = b"", list[bytes]()
    while head := _exactly(stream, 8, may_end=not parts):
        flag, length = _read_head(head, first=not parts)
        if len(framed) + length > limit_bytes:
            raise ValueError(f"a record has more than {limit_bytes} bytes")
        body = _exactly(stream, length + -length % 4)
        framed, parts = framed + head + body, [*parts, body[:length]]
        if flag in (_WHOLE, _LAST):
            yield framed, _MAGIC.join(parts)
            framed, parts = b"", []


def _read_head(head: bytes, *, first: bool) -> tuple[int, int]:
    """A part's flag and its length in bytes."""
    (word,) = struct.unpack("<I", head[4:])
    flag = word >> 29
    if head[:4] != _MAGIC or flag not in ((_WHOLE, _FIRST) if first else (_MIDDLE, _LAST)):
        raise ValueError("it is no RecordIO: there is no record's head where one must be")
    return flag, word & _MAX_BYTES


def _exactly(stream: IO[bytes], count: int, *, may_end: bool = False) -> bytes:
    found = b""
    while len(found) < count and (block := stream.read(count - len(found))):
        found += block
    if len(found) < count and (found or not may_end):
        raise ValueError("it ends in the middle of a record")
    return found
