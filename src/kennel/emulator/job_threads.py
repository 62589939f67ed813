"""A thread for each job of one kind that has not ended, from its beginning or from a restart to its last status."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

_LOG = logging.getLogger(__name__)


class Life(Protocol):
    """What a thread lives through."""

    @property
    def name(self) -> str:
        """The job's name."""
        ...

    def run(self) -> None:
        """Live until the job has ended or the server leaves."""

    def wake(self) -> None:
        """Look at the job's document now."""


_LifeT = TypeVar("_LifeT", bound=Life)


class JobThreads(Generic[_LifeT]):
    """The lives of all jobs of one kind. Safe to use from several threads."""

    def __init__(
        self,
        kind: str,
        begin: Callable[[str, threading.Event], _LifeT],
        ended: Callable[[_LifeT], None] | None = None,
    ) -> None:
        """`begin(name, leaving)` makes a life, in the caller's thread; `ended` is told of each one that is over.

        `kind` is for the log: "training job".
        """
        self._kind, self._begin, self._ended = kind, begin, ended
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._lives: dict[str, tuple[_LifeT, threading.Thread]] = {}

    @property
    def is_closing(self) -> bool:
        """Whether the server leaves."""
        return self._leaving.is_set()

    @property
    def is_idle(self) -> bool:
        """Whether there is no life."""
        with self._lock:
            return not self._lives

    def start(self, name: str) -> None:
        """Begin, or go on with, a job whose document is stored, unless somebody looks after it. Returns at once."""
        with self._lock:
            if self._leaving.is_set() or name in self._lives:
                return
            life = self._begin(name, self._leaving)
            thread = threading.Thread(target=self._run, args=(life,), daemon=True, name=f"{self._kind} {name}")
            self._lives[name] = life, thread
            thread.start()

    def _run(self, life: _LifeT) -> None:
        try:
            life.run()
        except Exception:  # the job's document has it already; a thread has nobody above who would log it
            _LOG.exception("The %s %s met a fault of the emulator", self._kind, life.name)
        try:
            if self._ended:
                self._ended(life)
        finally:
            with self._lock:
                self._lives.pop(life.name, None)

    def wake(self, name: str) -> None:
        """The document has changed: look at it now, whoever does; start where nobody does."""
        with self._lock:
            found = self._lives.get(name)
        if found:
            found[0].wake()
        else:  # it ended meanwhile, or nobody looks after it
            self.start(name)

    def wait(self, name: str, timeout_s: float) -> None:
        """Until nobody looks after the job any more.

        Raises:
            TimeoutError: it takes longer.
        """
        with self._lock:
            found = self._lives.get(name)
        if found:
            found[1].join(timeout_s)
            if found[1].is_alive():
                raise TimeoutError(f"{self._kind} {name} has not ended in {timeout_s} s")

    def leave(self) -> None:
        """Begin nothing more, and have all lives leave their jobs to the next server. Returns at once."""
        self._leaving.set()
        with self._lock:
            running = list(self._lives.values())
        for life, _ in running:
            life.wake()

    def close(self, timeout_s: float) -> None:
        """`leave`, and wait until all have done so."""
        self.leave()
        with self._lock:
            running = list(self._lives.values())
        deadline = time.monotonic() + timeout_s
        for _, thread in running:
            thread.join(max(0.0, deadline - time.monotonic()))
