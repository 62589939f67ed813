"""The JSONPath of a transform job's filters: what SageMaker documents of it, and nothing else.

Source: SageMaker developer guide, "Associate Prediction Results with Input Records", Supported JSONPath Operators. A
slice with an end, as $[1:3], is refused: the guide's text includes the end, the JSONPath that it refers to does not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_NAME = r"[^\s.\[\]'\"*?@()$,:]+"
_QUOTED = r"'[^'\\]*'|\"[^\"\\]*\""
_INDEX = r"-?\d{1,9}:?"
_STEP = re.compile(
    rf"\.(?P<name>{_NAME})"
    r"|(?P<all>\.\*|\.?\[\s*\*\s*\])"
    rf"|\.?\[\s*(?P<names>(?:{_QUOTED})(?:\s*,\s*(?:{_QUOTED}))*)\s*\]"
    rf"|\.?\[\s*(?P<indexes>{_INDEX}(?:\s*,\s*{_INDEX})*|:)\s*\]"
)
_KNOWN = "$, .name, *, ['name','name'], [0,2,-1] and [1:]"


class PathError(ValueError):
    """An expression that cannot be used, or a value that has not what it names. The message says which."""


@dataclass(frozen=True)
class Step:
    """One step down. Exactly one of the three says where to."""

    names: tuple[str, ...] = ()
    indexes: tuple[int | slice, ...] = ()
    several: bool = False  # gives an object or a list, even of one

    def of(self, value: Any) -> Any:
        """What is there.

        Raises:
            PathError: there is nothing.
        """
        if self.names:
            return self._members(value)
        if not isinstance(value, list):
            raise PathError("there is no list where the filter has an index")
        found = [one for index in self.indexes for one in _at(value, index)]
        return found if self.several else found[0]

    def _members(self, value: Any) -> Any:
        missing = [name for name in self.names if not isinstance(value, dict) or name not in value]
        if missing:
            raise PathError(f"there is no '{missing[0]}' where the filter asks for it")
        return {name: value[name] for name in self.names} if self.several else value[self.names[0]]


_ALL = Step(several=True)


@dataclass(frozen=True)
class JsonPath:
    """An expression, read."""

    text: str
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, text: str) -> JsonPath:
        """Read an expression.

        Raises:
            PathError: it is none, or none that SageMaker documents.
        """
        place, steps = 1, []
        while text.startswith("$") and place < len(text):
            found = _STEP.match(text, place)
            if not found:
                break
            steps.append(_step(found))
            place = found.end()
        if not text.startswith("$") or place < len(text):
            raise PathError(_complaint(text, place))
        if any(step.names and step.several for step in steps[:-1]):
            raise PathError(
                f"'{text}' goes on after several names, which SageMaker does not know; name each path whole"
            )
        return cls(text, tuple(steps))

    @property
    def is_root(self) -> bool:
        """Whether it takes everything."""
        return not self.steps

    @property
    def is_of_columns(self) -> bool:
        """Whether it can be asked of a row of CSV."""
        return len(self.steps) <= 1 and not any(step.names for step in self.steps)

    def of(self, value: Any) -> Any:
        """The part of a value.

        Raises:
            PathError: the value has no such part.
        """
        return _walk(value, self.steps)


def _walk(value: Any, steps: tuple[Step, ...]) -> Any:
    """Below a wildcard or several indexes each value goes its own way."""
    if not steps:
        return value
    first, rest = steps[0], steps[1:]
    if first == _ALL:
        inner = list(value.values()) if isinstance(value, dict) else value
        if not isinstance(inner, list):
            raise PathError("there is neither an object nor a list where the filter has *")
        return [_walk(one, rest) for one in inner]
    found = first.of(value)
    return [_walk(one, rest) for one in found] if first.several and first.indexes else _walk(found, rest)


def _step(found: re.Match[str]) -> Step:
    if found["name"]:
        return Step(names=(found["name"],))
    if found["names"]:
        names = tuple(ast.literal_eval(f"({found['names']},)"))
        return Step(names=names, several=len(names) > 1)
    if found["indexes"]:
        indexes = tuple(_index(text.strip()) for text in found["indexes"].split(","))
        return Step(indexes=indexes, several=len(indexes) > 1 or isinstance(indexes[0], slice))
    return _ALL


def _index(text: str) -> int | slice:
    return slice(int(text[:-1] or 0), None) if text.endswith(":") else int(text)


def _at(value: list[Any], index: int | slice) -> Iterator[Any]:
    if isinstance(index, slice):
        if index.start > len(value):
            raise PathError(f"there are {len(value)} values, and the filter begins at {index.start}")
        yield from value[index]
        return
    if not -len(value) <= index < len(value):
        raise PathError(f"there are {len(value)} values, and the filter asks for number {index}")
    yield value[index]


def _complaint(text: str, place: int) -> str:
    if re.match(r"\.?\[[^\]]*:\s*-?\d", text[place:]):
        return (
            f"'{text}' has a slice with an end. AWS's documents disagree on whether the end is included; name the "
            "indexes, such as $[1,2,3], or leave the end out"
        )
    if not text.startswith("$"):
        return f"'{text}' does not begin with $. SageMaker knows {_KNOWN}"
    return f"'{text}' has something that SageMaker does not know, at '{text[place:]}'. It knows {_KNOWN}"
