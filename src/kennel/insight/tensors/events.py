"""One tensor out of an event file: a TFRecord with an Event, its Summary, the Summary's Value, and its TensorProto.

Sources: TensorFlow, core/lib/io/record_writer.h (the frame), core/util/event.proto, core/framework/summary.proto,
tensor.proto, tensor_shape.proto and types.proto; protobuf, "Encoding". Few fields are needed, and they are read here:
protobuf's own package comes in versions that exclude each other.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_HEAD, _FOOT = struct.Struct("<QI"), struct.Struct("<I")  # length and its checksum; checksum of the payload
_STRING = (0, 7)  # smdebug leaves the type of strings out
_DTYPES = {  # types.proto's numbers; quantised ones are integers with a scale elsewhere
    1: "<f4", 2: "<f8", 3: "<i4", 4: "<u1", 5: "<i2", 6: "<i1", 8: "<c8", 9: "<i8", 10: "?", 11: "<i1", 12: "<u1",
    13: "<i4", 15: "<i2", 16: "<u2", 17: "<u2", 18: "<c16", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip


class RecordError(ValueError):
    """What is wrong with a record."""


def tensor_of(record: bytes, name: str) -> Array | None:
    """The tensor of a record; None where it holds strings.

    Args:
        record: the frame and what is in it.
        name: of the tensor that has to be in it.

    Raises:
        RecordError: the record is cut off or damaged, or holds another tensor.
    """
    value = _part(_part(_payload(record), 5, "summary"), 1, "value")
    tag = bytes(_part(value, 1, "name"))
    if tag != name.encode():
        raise RecordError(f"the record is of {tag.decode(errors='replace')}")
    return _array(_part(value, 8, "tensor"))


def _payload(record: bytes) -> memoryview:
    """What the frame is around."""
    if len(record) < _HEAD.size + _FOOT.size:
        raise RecordError(f"the record is cut off after {len(record)} bytes")
    length, of_length = _HEAD.unpack_from(record)
    if _checksum(record[:8]) != of_length:
        raise RecordError("the record's length does not fit its checksum")
    end = _HEAD.size + length
    if end + _FOOT.size > len(record):
        raise RecordError(f"the record is cut off after {len(record)} of {end + _FOOT.size} bytes")
    payload = memoryview(record)[_HEAD.size : end]
    [of_payload] = _FOOT.unpack_from(record, end)
    # smdebug saves itself the payload's checksum and writes that of a constant. The true one takes 0.1 s a MB here.
    if of_payload != _UNCHECKED and of_payload != _checksum(payload):
        raise RecordError("the record does not fit its checksum")
    return payload


def _table() -> tuple[int, ...]:
    """CRC-32C of each byte, by the reflected polynomial."""
    sums = list(range(256))
    for _ in range(8):
        sums = [(one >> 1) ^ (0x82F63B78 if one & 1 else 0) for one in sums]
    return tuple(sums)


_TABLE = _table()


def _checksum(data: bytes | memoryview) -> int:
    """CRC-32C, masked as record_writer.h has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


_UNCHECKED = _checksum(b"0x12345678")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: an integer, or bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise RecordError(f"a field has the unknown wire type {kind}")
        if at + length > end:
            raise RecordError("a field is longer than its message")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise RecordError("a number is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise RecordError("a number has more than ten bytes")


def _part(message: memoryview, wanted: int, name: str) -> memoryview:
    """The first field of a number that holds bytes."""
    for number, value in _fields(message):
        if number == wanted and isinstance(value, memoryview):
            return value
    raise RecordError(f"the record has no {name}")


def _array(tensor: memoryview) -> Array | None:
    kind = 0
    shape: tuple[int, ...] = ()
    content = memoryview(b"")
    for number, value in _fields(tensor):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, memoryview):
            shape = _shape(value)
        elif number == 4 and isinstance(value, memoryview):
            content = value
    if kind in _STRING:
        return None
    if kind not in _DTYPES:
        raise RecordError(f"the type {kind} is unknown")
    dtype = np.dtype(_DTYPES[kind])
    if math.prod(shape) * dtype.itemsize != len(content):
        raise RecordError(f"{len(content)} bytes are no {dtype.name} of shape {shape}")
    try:
        return np.frombuffer(content, dtype).reshape(shape).copy()  # a copy, so that the record can go
    except (ValueError, OverflowError) as error:  # more axes than numpy has
        raise RecordError(f"the shape cannot be: {error}") from error


def _shape(message: memoryview) -> tuple[int, ...]:
    """Sizes of the axes; protobuf leaves a size of 0 out."""
    axes = (value for number, value in _fields(message) if number == 2 and isinstance(value, memoryview))
    return tuple(
        next((size for number, size in _fields(axis) if number == 1 and isinstance(size, int)), 0) for axis in axes
    )
