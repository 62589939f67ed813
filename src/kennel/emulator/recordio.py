"""MXNet's RecordIO, written: how Pipe mode delimits records when RecordWrapperType is RecordIO.

Source: dmlc-core, include/dmlc/recordio.h. A record is the magic number, a word of a flag (upper 3 bits) and a length
(lower 29 bits), the data, and zeros up to a multiple of 4 bytes. Data that contains the magic number at a multiple of 4
bytes is cut there into parts, and the magic number itself is left out.
"""

from __future__ import annotations

import re
import struct

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
