"""How far something is: lines for a log, a live line for a terminal, nothing for a notebook. Always on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

_EVERY_S = 10.0  # how often a plain log repeats how far an upload is
_WIDE = 100  # columns of a terminal that has room for a long bar


@dataclass(frozen=True)
class Board:
    """A table that is redrawn as things change."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: int | None = None  # the row that stands out
    footer: str = ""


class Reporter(Protocol):
    """Where progress goes."""

    def say(self, line: str) -> None:
        """Tell a fact once."""

    def progress(self, done: float, total: float, text: str) -> None:
        """Tell how far it is; a later call replaces an earlier one."""

    def live(self, done: float, total: float, text: str) -> None:
        """As `progress`, of what a log is told by other lines: only where a line can be redrawn."""

    def board(self, board: Board) -> None:
        """A table in place of the last one: only where lines can be redrawn."""

    def finish(self) -> None:
        """The progress that was told last is over."""


class Silent:
    """Tells nothing."""

    def say(self, line: str) -> None:
        """Not told."""

    def progress(self, done: float, total: float, text: str) -> None:
        """Not told."""

    def live(self, done: float, total: float, text: str) -> None:
        """Not told."""

    def board(self, board: Board) -> None:
        """Not told."""

    def finish(self) -> None:
        """Nothing to end."""


class Lines:
    """One line a fact; progress when its text changes, and not more often than a reader can bear."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or (lambda line: sys.stderr.write(line + "\n"))
        self._last, self._at = "", 0.0

    def say(self, line: str) -> None:
        """Write the line."""
        self._write(line)

    def progress(self, done: float, total: float, text: str) -> None:
        """Write `text`, unless it was the last one, or the last one is fresh and more is to come."""
        now = time.monotonic()
        self._at = self._at or now  # the first line waits, too: what is quick needs none
        if text != self._last and (now - self._at >= _EVERY_S or done >= total):
            self._last, self._at = text, now
            self._write(text)

    def live(self, done: float, total: float, text: str) -> None:
        """Not told: a log has the facts already."""

    def board(self, board: Board) -> None:
        """Not told: a log has the facts already."""

    def finish(self) -> None:
        """Another progress may begin."""
        self._last, self._at = "", 0.0


class Live:
    """A bar that is redrawn in place, with facts above it."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True, highlight=False)
        self._bar: Any = None
        self._task: Any = None
        self._board: Any = None

    def say(self, line: str) -> None:
        """Write the line above the bar."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def progress(self, done: float, total: float, text: str) -> None:
        """Move the bar."""
        if self._bar is None:
            self._start()
        self._bar.update(self._task, completed=done, total=total or None, description=text)

    def live(self, done: float, total: float, text: str) -> None:
        """Move the bar."""
        self.progress(done, total, text)

    def _start(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        bar = 24 if self._console.width >= _WIDE else 10
        fixed, rest = Column(no_wrap=True, min_width=7), Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns = (
            SpinnerColumn(),
            BarColumn(bar, table_column=Column(min_width=bar)),
            TimeElapsedColumn(table_column=fixed),
            TextColumn("{task.description}", markup=False, table_column=rest),  # its end gives way to an ellipsis
        )
        self._bar = Progress(*columns, console=self._console, transient=True, expand=True)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def board(self, board: Board) -> None:
        """Draw the table below what was said."""
        from rich.live import Live as Screen

        if self._board is None:
            self._board = Screen(console=self._console, transient=True, auto_refresh=False)
            self._board.start()
        self._board.update(_drawn(board, self._console.height), refresh=True)

    def finish(self) -> None:
        """Take the bar and the table away."""
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.stop()
        self._bar = self._task = self._board = None


def _drawn(board: Board, height: int) -> Any:
    """As a table of rich; of more rows than the screen has, the last ones."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(board.title), caption=Text(board.footer), box=None, pad_edge=False, title_justify="left",
        caption_justify="left",
    )  # fmt: skip
    for name in board.header:
        table.add_column(Text(name), no_wrap=True, overflow="ellipsis")
    first = max(0, len(board.rows) - max(3, height - 6))
    for number, row in enumerate(board.rows[first:], first):
        table.add_row(*map(Text, row), style="bold" if number == board.marked else "")
    return table


def for_terminal() -> Reporter:
    """A live bar on a terminal, lines anywhere else; NO_COLOR is rich's to honour."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Live()
    return Lines()


@contextlib.contextmanager
def finishing(reporter: Reporter) -> Iterator[None]:
    """The progress that is told in the block is over at its end, whatever ends it."""
    try:
        yield
    finally:
        reporter.finish()
