"""The part of CBOR (RFC 8949) that Smithy RPC v2 needs: an answer written by its shape, a request read by botocore."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Any

from botocore.parsers import create_parser

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_EPOCH_TAG = 1


def encode(value: Any, shape: Any) -> bytes:
    """A value of a shape of botocore's model; times are numbers of seconds."""
    kind = shape.type_name
    if kind == "structure":
        members = [_text(name) + encode(one, shape.members[name]) for name, one in value.items()]
        return _head(_MAP, len(members)) + b"".join(members)
    if kind == "map":
        pairs = [_text(key) + encode(one, shape.value) for key, one in value.items()]
        return _head(_MAP, len(pairs)) + b"".join(pairs)
    if kind == "list":
        return _head(_ARRAY, len(value)) + b"".join(encode(one, shape.member) for one in value)
    return _scalar(value, kind)


def _scalar(value: Any, kind: str) -> bytes:
    if kind == "timestamp":
        return _head(_TAG, _EPOCH_TAG) + _double(value)
    if kind in ("float", "double"):
        return _double(value)
    if kind == "boolean":
        return b"\xf5" if value else b"\xf4"
    if kind in ("integer", "long"):
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    return _head(_BYTES, len(value)) + value if isinstance(value, bytes) else _text(value)


def _text(value: str) -> bytes:
    data = value.encode()
    return _head(_TEXT, len(data)) + data


def _double(value: float) -> bytes:
    return b"\xfb" + struct.pack(">d", value)


def _head(major: int, number: int) -> bytes:
    """The first bytes of an item: its major type, and its length or value in as few bytes as it needs."""
    if number < 24:
        return bytes([major << 5 | number])
    size = next(size for size in (1, 2, 4, 8) if number < 1 << 8 * size)
    return bytes([major << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big")


def decode(body: bytes) -> Any:
    """The value of a body; times become numbers of seconds.

    Raises:
        ValueError: it is not CBOR.
    """
    parser = create_parser("smithy-rpc-v2-cbor")
    try:
        return _seconds(parser.parse_data_item(parser.get_peekable_stream_from_bytes(body)))
    except Exception as error:  # botocore reads answers, and names no errors for those that nobody would send
        raise ValueError(f"not CBOR: {error}") from error


def _seconds(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, dict):
        return {key: _seconds(one) for key, one in value.items()}
    return [_seconds(one) for one in value] if isinstance(value, list) else value
