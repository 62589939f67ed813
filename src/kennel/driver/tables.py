"""Results as people read them: aligned columns, and levels in colour on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from kennel.driver.checks.findings import FAIL, OK, WARN, Finding

_COLOURS = {OK: "32", WARN: "33", FAIL: "31;1"}  # green, yellow, bold red


def columns(rows: Iterable[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Rows as left-aligned columns, two spaces apart."""
    texts = [[str(cell) for cell in row] for row in ([header] if header else [])] + [[str(c) for c in r] for r in rows]
    if not texts:
        return ""
    widths = [max(len(row[place]) for row in texts) for place in range(len(texts[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
    return "\n".join(lines)


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """Names and values, those without a value left out."""
    return columns([(name, value) for name, value in rows if value not in (None, "")])


def levels(findings: Sequence[Finding]) -> str:
    """Findings as lines: level, subject, text, and what to do below it."""
    width = max((len(finding.subject) for finding in findings), default=0)
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{_painted(finding.level)}  {finding.subject.ljust(width)}  {finding.text}")
        if finding.hint:
            lines.append(f"{' ' * (width + 8)}{finding.hint}")
    return "\n".join(lines)


def _painted(level: str) -> str:
    text = level.ljust(4)
    return f"\x1b[{_COLOURS[level]}m{text}\x1b[0m" if wants_colour() else text


def wants_colour() -> bool:
    """On a terminal, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def when(moment: datetime | None) -> str:
    """A time in this machine's zone, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def duration(seconds: float | None) -> str:
    """`34 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def dollars(usd: float | None) -> str:
    """`0.23 USD`; empty when it is not known."""
    return "" if usd is None else f"{usd:.2f} USD"
