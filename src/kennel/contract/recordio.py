"""MXNet's RecordIO: how Pipe mode and a transform's SplitType delimit records.

Source: dmlc-core, include/dmlc/recordio.h. A record is the magic number, a word that holds a flag (upper 3 bits) and
the length (lower 29 bits), the data, and zeros up to a multiple of 4 bytes; all numbers are little-endian. Data that
contains the magic number at a multiple of 4 bytes is cut there into parts, without the magic number itself.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_MAX_BYTES = (1 << 29) - 1


class RecordError(ValueError):
    """A stream is not RecordIO; the message is a clause without a full stop, such as "it ends inside a record"."""

    truncated = False  # whether the stream is RecordIO and ends too early


class TruncatedError(RecordError):
    """A stream ends inside a record."""

    truncated = True


class Record(NamedTuple):
    """A record, twice."""

    framed: bytes  # as it lies in the stream, with heads and padding
    data: bytes


def record(data: bytes) -> bytes:
    """Frame data as one record.

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
    for found in re.finditer(re.escape(_MAGIC_BYTES), data):
        if found.start() % 4 == 0:
            parts.append(data[start : found.start()])
            start = found.end()
    return [*parts, data[start:]]


def _part(flag: int, data: bytes) -> bytes:
    return _MAGIC_BYTES + struct.pack("<I", flag << 29 | len(data)) + data + bytes(-len(data) % 4)


def read_records(stream: IO[bytes], limit_bytes: int | None = None) -> Iterator[Record]:
    """Read the records of a stream in order.

    Args:
        stream: a file, a FIFO or a socket's file; a read may give less than it was asked for.
        limit_bytes: a larger record is an error.

    Raises:
        RecordError: the bytes are not RecordIO, or a record is larger than the limit.
        TruncatedError: the stream ends inside a record.
    """
    framed, parts, offset = b"", list[bytes](), 0
    while head := _exactly(stream, 8):
        flag, size = _read_head(head, begun=bool(parts), offset=offset)
        if limit_bytes is not None and len(framed) + size > limit_bytes:
            raise RecordError(f"the record at byte {offset} has more than {limit_bytes} bytes")
        padded = _exactly(stream, size + -size % 4)
        if len(padded) < size + -size % 4:
            raise TruncatedError(f"it ends inside the record that begins at byte {offset}")
        framed, parts, offset = framed + head + padded, [*parts, padded[:size]], offset + 8 + len(padded)
        if flag in (_WHOLE, _LAST):
            yield Record(framed, _MAGIC_BYTES.join(parts))
            framed, parts = b"", []
    if parts:
        raise TruncatedError(f"it ends after a part of a record, at byte {offset}")


def _read_head(head: bytes, *, begun: bool, offset: int) -> tuple[int, int]:
    """The flag of a part and its length in bytes."""
    if head[:4] != _MAGIC_BYTES[: len(head)]:
        raise RecordError(f"byte {offset} starts with {head[:4].hex()}, not {_MAGIC_BYTES.hex()}")
    if len(head) < 8:
        raise TruncatedError(f"it ends inside the record that begins at byte {offset}")
    (word,) = struct.unpack("<I", head[4:])
    flag = word >> 29
    if flag not in ((_MIDDLE, _LAST) if begun else (_WHOLE, _FIRST)):
        inside = "inside" if begun else "outside"
        raise RecordError(f"the part at byte {offset} has flag {flag} {inside} a record of several parts")
    return flag, word & _MAX_BYTES


def _exactly(stream: IO[bytes], count: int) -> bytes:
    """So many bytes, or fewer where the stream ends."""
    blocks: list[bytes] = []
    while count and (block := stream.read(count)):
        blocks.append(block)
        count -= len(block)
    return b"".join(blocks)
