"""A request held against botocore's service model: every member, type, length, range, pattern and enumeration.

botocore itself checks only required members, types and minima before it sends; the rest is the service's to refuse.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Callable
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

_SHOWN_CHARS = 120  # of a wrong value in a message
_BITS = {"integer": 32, "long": 64}
# Java's classes of characters in Python's words; each stands inside brackets in the model, but the first.
_CLASSES = {
    r"\p{ASCII}*": r"[\x00-\x7f]*",
    r"\z": r"\Z",
    r"\p{Print}": " -~",
    r"\p{L}": r"\w",
    r"\p{N}": r"\d",
    r"\p{Z}": r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"\p{M}": r"\u0300-\u036f",
    r"\p{P}": r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u2027\u2030-\u205e",
    r"\p{S}": r"$+<=>\^`|~\u00a2-\u00a9\u20a0-\u20c0\u2190-\u23ff",
    r"\p{Alnum}": "A-Za-z0-9",
}


def problems_of(value: Any, shape: Shape, path: str = "") -> list[str]:
    """Everything that the model has against a value, in AWS's words.

    Args:
        value: as JSON has it, without nulls; times are numbers of seconds.
        shape: what it should be.
        path: the member's name, such as `InputDataConfig[0].ChannelName`.
    """
    expected = _TYPES[shape.type_name]
    if not _is_of(value, expected):
        return [_problem(value, shape, path, f"Member must be of type {shape.type_name}")]
    return _CHECKS[shape.type_name](value, shape, path)


def _is_of(value: Any, expected: tuple[type, ...]) -> bool:
    return isinstance(value, expected) and (expected == (bool,) or not isinstance(value, bool))


def _problem(value: Any, shape: Shape, path: str, constraint: str) -> str:
    shown = "[sensitive]" if shape.metadata.get("sensitive") else str(value)
    if len(shown) > _SHOWN_CHARS:
        shown = f"{shown[:_SHOWN_CHARS]}…"
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


def _structure(value: dict[str, Any], shape: StructureShape, path: str) -> list[str]:
    dot = f"{path}." if path else ""
    found = [_unknown(name, shape, dot) for name in value if name not in shape.members]
    for name in shape.required_members:
        if name not in value:
            found.append(f"Value null at '{dot}{name}' failed to satisfy constraint: Member must not be null")
    if shape.is_tagged_union and len(value) != 1:
        found.append(_problem(", ".join(value), shape, path, f"Exactly one of {list(shape.members)} must be set"))
    for name, member in shape.members.items():
        if name in value:
            found += problems_of(value[name], member, dot + name)
    return found


def _unknown(name: str, shape: StructureShape, dot: str) -> str:
    close = difflib.get_close_matches(name, shape.members, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(shape.members) or 'none'}"
    return f"Unknown member '{dot}{name[:_SHOWN_CHARS]}': {hint}"


def _list(value: list[Any], shape: ListShape, path: str) -> list[str]:
    found = _size(value, shape, path, len(value))
    for index, one in enumerate(value):
        found += problems_of(one, shape.member, f"{path}[{index}]")
    return found


def _map(value: dict[str, Any], shape: MapShape, path: str) -> list[str]:
    found = _size(value, shape, path, len(value))
    for key, one in value.items():
        found += problems_of(key, shape.key, f"{path} (a key)")
        found += problems_of(one, shape.value, f"{path}.{key[:_SHOWN_CHARS]}")
    return found


def _string(value: str, shape: StringShape, path: str) -> list[str]:
    if shape.enum and value not in shape.enum:
        close = difflib.get_close_matches(value, shape.enum, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        allowed = ", ".join(shape.enum)
        return [_problem(value, shape, path, f"Member must satisfy enum value set: [{allowed}]{hint}")]
    wrong_size = _size(value, shape, path, len(value))
    pattern = shape.metadata.get("pattern")
    if wrong_size or not pattern or _matches(pattern, value):
        return wrong_size
    advice = " (or file:///…, a path of this machine)" if "s3)://" in pattern else ""
    return [_problem(value, shape, path, f"Member must satisfy regular expression pattern: {pattern}{advice}")]


def _matches(pattern: str, value: str) -> bool:
    compiled = compile_pattern(pattern)
    if compiled.fullmatch(value):
        return True
    # A path of this machine may stand wherever a place in S3 may.
    return value.startswith("file:///") and compiled.fullmatch("s3://bucket/" + value[len("file:///") :]) is not None


@functools.cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of the model, which are Java's, as Python's.

    Raises:
        re.error: Python has no such pattern; the supported operations have none of those.
    """
    for java, python in _CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def _size(value: Any, shape: Shape, path: str, size: float, what: str = "length") -> list[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        return [_problem(value, shape, path, f"Member must have {what} greater than or equal to {low}")]
    if high is not None and size > high:
        return [_problem(value, shape, path, f"Member must have {what} less than or equal to {high}")]
    return []


def _number(value: float, shape: Shape, path: str) -> list[str]:
    if not math.isfinite(value):
        return [_problem(value, shape, path, "Member must be a finite number")]
    bits = _BITS.get(shape.type_name)
    if bits and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        return [_problem(value, shape, path, f"Member must fit into {bits} bits")]
    return _size(value, shape, path, value, "value")


def _anything(value: Any, shape: Shape, path: str) -> list[str]:  # noqa: ARG001 - the shape of a check
    return []


_NUMBERS = (int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,), "list": (list,), "map": (dict,), "string": (str,), "blob": (str, bytes), "boolean": (bool,),
    "integer": (int,), "long": (int,), "float": _NUMBERS, "double": _NUMBERS, "timestamp": _NUMBERS,
}  # fmt: skip
_CHECKS: dict[str, Callable[[Any, Any, str], list[str]]] = {
    "structure": _structure, "list": _list, "map": _map, "string": _string, "blob": _anything, "boolean": _anything,
    "integer": _number, "long": _number, "float": _number, "double": _number, "timestamp": _number,
}  # fmt: skip
