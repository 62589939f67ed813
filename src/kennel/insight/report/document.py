"""A report as values: sections of text, tables and charts, which HTML and PDF both draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]  # of Vega-Lite


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells; columns of numbers are right-aligned."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()  # rows that ask for attention
    half: bool = False  # narrow: two of them stand side by side


@dataclass(frozen=True)
class Figure:
    """A chart and what it shows."""

    name: str  # unique in the document
    spec: Spec
    caption: str
    half: bool = False


@dataclass(frozen=True)
class KeyFigures:
    """A few numbers that come first: label, value, and a word on it."""

    items: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Change:
    """A piece of advice: what to write, what it brings, and why."""

    topic: str
    change: str
    gain: str
    reason: str


Block = Text | Table | Figure | KeyFigures | Change


@dataclass(frozen=True)
class Section:
    """A part with a heading."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    subtitle: str
    problems: tuple[str, ...]
    sections: tuple[Section, ...]
    footer: str = ""
    kind: str = "Profiler report"
    figures: tuple[Figure, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = tuple(block for section in self.sections for block in section.blocks if isinstance(block, Figure))
        object.__setattr__(self, "figures", found)
