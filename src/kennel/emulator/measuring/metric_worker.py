"""Searches lines for regular expressions: `python metric_worker.py`, a process of its own that needs nothing else.

An expression can take longer than the world will last, and Python lets nothing else run while it searches; so it does
that here, where it is cut off. The first line of standard input is a JSON list of expressions. Every further line is a
list of texts; its answer is {"found": [[value or null for each expression] for each text], "slow": [indexes]}. Texts
for which there was no time are left out, at the end; an expression that was slow finds nothing any more. A long text
may be too much for a good expression, one that begins with `.*` for instance: a few of them are passed over first.

A text with carriage returns has the states of a progress bar. What a terminal would show of them is the last one; so
the last state in which an expression finds something counts, as if it were a line of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator

LIMIT_S = 1.0  # of the processor's time, for one expression on one text: a busy machine makes none slow
LONG_CHARS, MOST_LONG = 4096, 10  # such texts may be too slow for an expression, so often
_TURN_S = 1.0  # for one answer, or for one text where that takes longer


class _SlowError(Exception):
    """The time is over."""


class Search:
    """Expressions that are still searched for."""

    def __init__(self, expressions: Iterable[str]) -> None:
        self._patterns = dict(enumerate(map(re.compile, expressions)))
        self._count = len(self._patterns)
        self.slow: list[int] = []
        self._passed_over = dict.fromkeys(self._patterns, 0)

    def values(self, text: str) -> list[str | None]:
        """The first group of each expression, or None where there is none."""
        found: list[str | None] = [None] * self._count
        candidates = _candidates(text)
        for index, pattern in list(self._patterns.items()):
            try:
                with _limited():
                    found[index] = _first_group(pattern, candidates)
            except _SlowError:
                self._passed_over[index] += 1
                if len(text) <= LONG_CHARS or self._passed_over[index] > MOST_LONG:
                    del self._patterns[index]
                    self.slow.append(index)
        return found


def _candidates(text: str) -> list[str]:
    states = [state for state in reversed(text.split("\r")) if state]
    return states if len(states) == 1 else [*states, text]


def _first_group(pattern: re.Pattern[str], texts: Iterable[str]) -> str | None:
    for text in texts:
        match = pattern.search(text)
        if match:
            found: str | None = match.group(1)
            return found
    return None


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _stop(*_: object) -> None:
    raise _SlowError


def main() -> int:
    """Answer until standard input ends."""
    signal.signal(signal.SIGVTALRM, _stop)
    search = Search(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        deadline = time.monotonic() + _TURN_S
        found = []
        for text in json.loads(line):
            found.append(search.values(text))
            if time.monotonic() > deadline:
                break
        sys.stdout.write(json.dumps({"found": found, "slow": search.slow}) + "\n")
        sys.stdout.flush()
        search.slow = []
    return 0


if __name__ == "__main__":
    sys.exit(main())
