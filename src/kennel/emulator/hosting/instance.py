"""One instance of an endpoint, in a thread of its own: started, watched, started again when it dies, and drained."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kennel.emulator.containers.client import Connections
from kennel.emulator.containers.container import CancelledError, Serve, ServeContainer, ServeError
from kennel.emulator.documents.endpoint import Key
from kennel.emulator.hosting.routes import Routes, Target
from kennel.emulator.runners.base import Runner, RunnerError
from kennel.emulator.state.shortages import passes, told

DRAIN_S = 60.0  # what an invocation may take
STARTING, HEALTHY, UNHEALTHY, FAILED = "starting", "healthy", "unhealthy", "failed"
_LOOK_S = 0.5
_PING_S = 5.0
_PING_AGAIN_S = 1.0
_BAD_PINGS = 3  # in a row, then it is started again
_MAX_BACKOFF_S = 30.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """What all instances of an endpoint have in common."""

    runner: Runner
    routes: Routes
    changed: Callable[[], None]  # told whenever a phase has changed
    start_lock: threading.Lock  # instances of one variant share the model's folder, which one of them fills


class Instance:
    """From its start to its end. `phase`, `reason` and `failures` may be read from any thread."""

    def __init__(self, key: Key, spec: Serve, log_group: str, shared: Shared, *, must_start: bool) -> None:
        """Nothing is started yet.

        Args:
            key: which one it is.
            spec: its container.
            log_group: where its log is found.
            shared: with the endpoint's other instances.
            must_start: the first failure is the last one: whoever deploys it wants to know.
        """
        self.key = key
        self.phase = STARTING
        self.reason = ""
        self.failures = 0
        self.target: Target | None = None
        self._spec = spec
        self._log_group = log_group
        self._shared = shared
        self._must_start = must_start
        self._container = ServeContainer(shared.runner, spec)
        self._wake = threading.Event()
        self._ending = False
        self._drain_s = DRAIN_S
        self._leaving = False
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"instance-{spec.name}")

    def begin(self, handle: str | None = None) -> None:
        """Start it, or look after the run of this handle."""
        self._container.handle = handle
        self._thread.start()

    def end(self, drain_s: float = DRAIN_S) -> None:
        """Answer what was taken on, in `drain_s` at most, then stop. Returns at once; it must be out of the route."""
        self._drain_s = drain_s
        self._ending = True
        self._wake.set()

    def leave(self) -> None:
        """Let it run, but look after it no more."""
        self._leaving = True
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of `end` or `leave`; whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left."""
        return not self._thread.is_alive()

    def _is_over(self) -> bool:
        return self._ending or self._leaving

    def _run(self) -> None:
        while not self._is_over():
            self._live()
        if not self._leaving:
            self._drain()
        if not self._leaving:
            self._container.stop()
            shutil.rmtree(self._spec.folder, ignore_errors=True)
            self._shared.changed()

    def _live(self) -> None:
        """One start, and the time until it has died."""
        try:
            self._bring_up()
            self._watch()
        except CancelledError:
            return
        except (ServeError, RunnerError) as error:
            self._fail(told(str(error), error, self._spec.folder), is_final=not passes(error))
        except Exception as error:  # a fault of the emulator, which whoever waits for the instance must hear of, too
            _LOG.exception("Instance %s met a fault of the emulator", self._spec.name)
            reason = told(f"InternalServerError: {error!r}.", error, self._spec.folder)
            self._fail(reason, is_final=not passes(error))

    def _fail(self, reason: str, *, is_final: bool) -> None:
        """End what is left of it, say so, and wait before the next start, if there is to be one."""
        self.failures += 1
        self._container.stop(0)
        final = is_final and self._must_start and self.target is None
        self._become(FAILED if final else UNHEALTHY, reason)
        self._pause(None if final else min(_MAX_BACKOFF_S, 2.0 ** (self.failures - 2)))

    def _bring_up(self) -> None:
        if self._container.handle is None:
            with self._shared.start_lock:
                if self._is_over():
                    raise CancelledError
                self._container.start()
        self._container.wait_until_healthy(self._is_over)
        host, port = self._container.address()
        connections = Connections(host, port)
        models = self._container.models(connections)
        self.target = Target(connections, self._log_group, self.key.log_stream, self._wake.set, models)
        self._become(HEALTHY, "")

    def _watch(self) -> None:
        """Until it dies or is not wanted any more.

        Raises:
            ServeError: it has died, or answers no pings.
        """
        bad, next_ping = 0, time.monotonic() + _PING_S
        while not self._is_over():
            ended = self._container.ended()
            if ended:
                raise ServeError(f"{ended} {self._container.tail()}")
            if time.monotonic() >= next_ping:
                problem = self._container.ping()
                bad = bad + 1 if problem else 0
                self.failures = self.failures if problem else 0
                if bad >= _BAD_PINGS:
                    raise ServeError(f"It failed {bad} pings in a row; the last: {problem}. {self._container.tail()}")
                next_ping = time.monotonic() + (_PING_AGAIN_S if problem else _PING_S)
            self._pause(_LOOK_S)

    def _pause(self, seconds: float | None) -> None:
        deadline = time.monotonic() + (float("inf") if seconds is None else seconds)
        while not self._is_over() and time.monotonic() < deadline:
            if self._wake.wait(min(1.0, max(0.0, deadline - time.monotonic()))):
                self._wake.clear()
                if seconds is not None and seconds <= _LOOK_S:
                    return

    def _become(self, phase: str, reason: str) -> None:
        self.reason = reason
        self.phase = phase
        self._shared.changed()

    def _drain(self) -> None:
        deadline = time.monotonic() + self._drain_s
        while self.target and not self._shared.routes.is_idle(self.target) and time.monotonic() < deadline:
            if self._leaving:
                return
            time.sleep(0.02)
