"""The containers or processes of one attempt at a job, all hosts together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kennel.emulator.documents.training import HostFailure, JobFailure, life
from kennel.emulator.runners.base import Exited, Lost, Runner, RunnerError, Running, State
from kennel.emulator.state.log_lines import last_line
from kennel.emulator.state.shortages import passes

_ENGINE_S = 60.0  # that an engine may be silent for, as while it restarts


class JobRuns:
    """What runs for a job, by the handles in its document."""

    def __init__(self, document: Mapping[str, Any], folder: Path, runner: Runner, feeders: Runner) -> None:
        known = life(document)
        self._handles, self._feeds = known.handles, known.feeders
        self._folder = folder
        self._runner = runner
        self._feeders = feeders
        self._silent_since: float | None = None

    def states(self) -> dict[str, State]:
        """How each host is now.

        Raises:
            JobFailure: the engine has been silent for too long, or a pipe is not filled any more.
        """
        for name, handle in self._feeds.items():
            if not isinstance(self._state_of(self._feeders, handle), Running):
                said = last_line(self._folder / "hosts" / name / "feeder.log") or "the feeder of the pipes ended"
                raise JobFailure(f"ClientError: Data download failed: {said}")
        return {name: self._state_of(self._runner, handle) for name, handle in self._handles.items()}

    def _state_of(self, runner: Runner, handle: str) -> State:
        try:
            state = runner.state(handle)
        except RunnerError as error:
            if passes(error):  # nobody can look now; it is not the engine
                return Running()
            self._silent_since = self._silent_since or time.monotonic()
            if time.monotonic() - self._silent_since > _ENGINE_S:
                raise JobFailure(f"InternalServerError: {error}", internal=True) from error
            return Running()
        self._silent_since = None
        return state

    def terminate(self) -> None:
        """SIGTERM to every host's program."""
        self._send(self._runner.signal)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        self._send(self._runner.kill)

    def _send(self, send: Callable[[str], None]) -> None:
        for handle in self._handles.values():
            with contextlib.suppress(RunnerError):  # it is tried again, or the engine's silence ends the job
                send(handle)


def first_failure(states: Mapping[str, State]) -> HostFailure | None:
    """The first host that ended badly.

    Raises:
        JobFailure: a host is lost.
    """
    for name, state in states.items():
        if isinstance(state, Lost):
            raise JobFailure(f"InternalServerError: {name}: {state.reason}", internal=True)
        if isinstance(state, Exited) and state.code:
            return HostFailure(name, state.code, state.reason, time.time())
    return None
