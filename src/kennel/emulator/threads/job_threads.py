"""A thread for each job of one kind that has not ended, from its beginning or from a restart to its last status."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from kennel.emulator.state.shortages import LeavingError, Patience, shortage_of
from kennel.emulator.threads.timers import Timers

_BEGIN_AGAIN_S = 0.5
_LOG = logging.getLogger(__name__)


class Life(Protocol):
    """What a thread lives through."""

    @property
    def name(self) -> str:
        """The job's name."""
        ...

    def run(self) -> None:
        """Live until the job has ended or the server leaves.

        What this machine lacks (see shortages.py) may be raised at any time: a new life goes on from what is stored.
        """

    def fail(self, reason: str) -> None:
        """End the job that has met a fault of the emulator: nothing may stay InProgress for ever."""

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
        self._unbegun: set[str] = set()  # for which there was no thread
        self._patience = Patience(self._leaving)
        self.timers = Timers()  # they end with the threads

    @property
    def leaving(self) -> threading.Event:
        """Set when the server leaves."""
        return self._leaving

    @property
    def is_closing(self) -> bool:
        """Whether the server leaves."""
        return self._leaving.is_set()

    @property
    def is_idle(self) -> bool:
        """Whether there is no life."""
        with self._lock:
            return not (self._lives or self._unbegun)

    def start(self, name: str) -> None:
        """Begin, or go on with, a job whose document is stored, unless somebody looks after it. Returns at once."""
        with self._lock:
            if self._leaving.is_set() or name in self._lives:
                return
            life = self._begin(name, self._leaving)
            thread = threading.Thread(target=self._run, args=(name,), daemon=True, name=f"{self._kind} {name}")
            self._lives[name] = life, thread
            try:
                thread.start()
            except RuntimeError:  # this machine has no more of them now
                del self._lives[name]
                self._unbegun.add(name)
                self.timers.after(_BEGIN_AGAIN_S, self._begin_again)

    def _begin_again(self) -> None:
        with self._lock:
            names, self._unbegun = self._unbegun, set()
        for name in names:
            self.start(name)

    def _run(self, name: str) -> None:
        try:
            with contextlib.suppress(LeavingError):
                life = self._patience.until_done(lambda: self._live(name))
                if self._ended:
                    self._ended(life)
        except Exception:  # a thread has nobody above who would log it
            _LOG.exception("The end of the %s %s met a fault of the emulator", self._kind, name)
        finally:
            with self._lock:
                self._lives.pop(name, None)

    def _live(self, name: str) -> _LifeT:
        life = self._lives[name][0]
        try:
            life.run()
        except LeavingError:
            raise
        except Exception as error:
            if shortage_of(error):
                self._renew(name)
                raise
            _LOG.exception("The %s %s met a fault of the emulator", self._kind, name)
            life.fail(f"InternalServerError: {type(error).__name__}: {error}")
        return life

    def _renew(self, name: str) -> None:
        """Its next life, which takes it up from what is stored, as after a restart of the server."""
        with self._lock:
            self._lives[name] = self._begin(name, self._leaving), self._lives[name][1]

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
        self.timers.close(max(0.0, deadline - time.monotonic()))
