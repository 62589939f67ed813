"""MXNet's RecordIO: how Pipe mode delimits the attributes of an augmented manifest.

Source: dmlc-core, include/dmlc/recordio.h. A record is the magic number, a word that holds a flag (upper 3 bits) and
the length (lower 29 bits), the data, and zeros up to a multiple of 4 bytes; all numbers are little-endian. Data that
contains the magic number at a multiple of 4 bytes is cut there into parts, without the magic number itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from kennel.classifier.errors import DataError

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


def read_records(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The records of a stream in order, each as one piece.

    Args:
        stream: a file or a FIFO, buffered, so that a read gives all bytes that were asked for.
        name: what messages call the stream.

    Raises:
        DataError: the bytes are not RecordIO, or end inside a record.
    """
    parts: list[bytes] = []
    offset = 0
    while header := stream.read(8):
        magic, word = struct.unpack("<II", header) if len(header) == 8 else (None, 0)
        if magic is not None and magic != MAGIC:
            raise DataError(
                f"{name} is not RecordIO: byte {offset} starts with {header[:4].hex()}, not {_MAGIC_BYTES.hex()}. "
                "Set RecordWrapperType to RecordIO for this channel."
            )
        flag, size = word >> 29, word & (1 << 29) - 1
        padded = stream.read(size + -size % 4)
        if magic is None or len(padded) < size + -size % 4:
            raise DataError(f"{name} ends inside the record that begins at byte {offset}. The delivery was cut short.")
        _require_turn(flag, begun=bool(parts), name=name, offset=offset)
        parts.append(padded[:size])
        offset += 8 + len(padded)
        if flag in (_WHOLE, _LAST):
            yield _MAGIC_BYTES.join(parts)
            parts = []
    if parts:
        raise DataError(f"{name} ends after a part of a record, at byte {offset}. The delivery was cut short.")


def _require_turn(flag: int, *, begun: bool, name: str, offset: int) -> None:
    if flag not in ((_MIDDLE, _LAST) if begun else (_WHOLE, _FIRST)):
        raise DataError(
            f"{name} is not valid RecordIO: the record at byte {offset} has flag {flag} "
            f"{'inside' if begun else 'outside'} a record of several parts."
        )
