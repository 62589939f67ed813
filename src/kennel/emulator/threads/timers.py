"""Calls that are due later, such as the end of a warm pool: one thread for all of them, which ends with its owner."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from kennel.emulator.state.shortages import LeavingError

_LOG = logging.getLogger(__name__)


class Timers:
    """What is due later. Safe to use from several threads.

    The calls follow one another in one thread, so that each is on time only where those before it are short.
    """

    def __init__(self) -> None:
        """Start the thread, which sleeps until something is due."""
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, Callable[[], object]]] = []  # a heap of (time.monotonic, number, call)
        self._numbers = itertools.count()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="timers")
        self._thread.start()

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call it once so many seconds from now, unless the timers are closed before that."""
        with self._changed:
            heapq.heappush(self._calls, (time.monotonic() + seconds, next(self._numbers), call))
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Begin no further call, and wait so long for the one that is under way. May be repeated."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while call := self._next():
            try:
                call()
            except LeavingError:
                return
            except Exception:  # the calls after it are still due
                _LOG.exception("A call that was due met a fault of the emulator")

    def _next(self) -> Callable[[], object] | None:
        """The next call when it is due, or None when there will be none."""
        with self._changed:
            while not self._is_closed:
                wait_s = self._calls[0][0] - time.monotonic() if self._calls else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._calls)[2]
                self._changed.wait(wait_s)
        return None
