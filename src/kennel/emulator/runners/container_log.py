"""Copies a container's output into a log file: every line once, whoever is restarted meanwhile.

The engine's log of a container only grows, since docker.py starts it so that nothing is dropped. Each event in the file
says how many bytes of both streams of which container have been copied (`at`, `of`); whoever goes on reads the engine's
log from its beginning and leaves those bytes out. The times would not do: two lines can have the same, and clocks are
set back.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from kennel.emulator.runners.base import Exited, Lost, RunnerError, State
from kennel.emulator.runners.docker_command import MissingContainerError, docker, inspect
from kennel.emulator.runners.engine_stream import STDERR, STDOUT, EngineStream, Frame
from kennel.emulator.state.log_lines import Cutter, LogWriter, encode
from kennel.emulator.state.shortages import LeavingError, Patience

LOG_END_S = 60.0  # in which the engine gives nothing of the log of a container that has ended
_RESTART_S = 10.0  # from the end of a container that somebody else ended to its next start
_AGAIN_S, _SELDOM_S = 0.2, 2.0  # between two tries
_CREATED_S = 60.0  # from a container's creation to its start
_AWAY = "[kennel]: the engine was away when this container ended: what it printed meanwhile is not in this log"
_ID_CHARS = 12  # of a container
_KNOWN = 64  # frames that are compared to find the place in the end of a log
_TAILS = (256, 4096)  # frames
_ALIVE = ("created", "running", "paused", "restarting", "removing")


@dataclass
class _Open:
    """A line of which the engine gave pieces without an end."""

    stamp: bytes
    piece_bytes: int


class Lines:
    """Makes events of frames.

    A frame without a line's end is a piece of a line, the end of the last one, or the last line of a program that ended
    without a newline. The pieces of one line have the same time, and all but the last the same length; some engines
    leave out the newline of the last.
    """

    def __init__(self, at: dict[int, int], container: str) -> None:
        """Leave out the first `at` bytes of each stream."""
        self._at = at
        self._container = container
        self._cutters = {stream: Cutter() for stream in (STDOUT, STDERR)}
        self._began: dict[int, int] = {}
        self._open: dict[int, _Open] = {}

    def feed(self, frame: Frame) -> Iterator[bytes]:
        """The lines of the log file that end in a frame."""
        cutter, opened = self._cutters[frame.stream], self._open.get(frame.stream)
        if opened and opened.stamp != frame.stamp:
            yield from self.end_line(frame.stream)
            opened = None
        if not cutter.is_holding:
            self._began[frame.stream] = _milliseconds(frame.stamp)
        yield from self._events(frame.stream, cutter.feed(frame.data))
        if frame.data.endswith(b"\n"):
            self._open.pop(frame.stream, None)
        elif opened and len(frame.data) < opened.piece_bytes:
            yield from self.end_line(frame.stream)
        elif not opened:
            self._open[frame.stream] = _Open(frame.stamp, len(frame.data))

    def end_line(self, stream: int) -> Iterator[bytes]:
        """Nothing more of this line will come."""
        self._open.pop(stream, None)
        yield from self._events(stream, self._cutters[stream].end_line())

    def finish(self) -> list[bytes]:
        """What is left of both streams: the container has ended."""
        return [line for stream in self._cutters for line in self.end_line(stream)]

    def _events(self, stream: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            end = self._cutters[stream].end
            new = end - self._at[stream]
            if new > 0:
                self._at[stream] = end
                raw = piece if new >= len(piece) else piece[-new:]
                place = [self._at[STDOUT], self._at[STDERR]]
                yield encode(self._began[stream], raw, at=place, of=self._container)


class Follower(threading.Thread):
    """Copies one container's log until the container has ended and all of it is there."""

    def __init__(self, container: str, log_file: Path, lock_file: Path) -> None:
        """Nothing is read before `start`; one at a time holds the lock."""
        super().__init__(daemon=True, name=f"log-{container[:12]}")
        self.container = container
        self.ended: State | None = None  # and its whole log is in the file
        self.problem = ""  # why the engine cannot be asked
        self.is_ours = False  # whether we have told the container to end
        self.copied = 0  # frames
        self._was_away = False  # the engine, since the container was seen to run
        self._log_file = log_file
        self._lock_file = lock_file
        self._stream: EngineStream | None = None
        self._leave = threading.Event()

    def leave(self) -> None:
        """Copy nothing more. May be called by any thread."""
        self._leave.set()
        self.break_off()

    def break_off(self) -> None:
        """Let go of a connection on which nothing comes any more."""
        stream = self._stream
        if stream:
            stream.close()

    def run(self) -> None:
        """Copy; a full disk, or too few open files, are waited for."""
        try:
            Patience(self._leave, self._log_file).until_done(self._copy_all)
        except LeavingError:
            pass
        except OSError as error:
            self.ended = Lost(f"The container's log cannot be written: {self._log_file}: {error.strerror}.")

    def _copy_all(self) -> None:
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.closing(LogWriter(self._log_file, self._leave.is_set)) as writer:
                self._copy(_Copy(writer, self.container[:_ID_CHARS]))

    def _copy(self, copy: _Copy) -> None:
        failures = 0
        while not self._leave.is_set():
            before = self.copied
            self._read(copy.resume, follow=True)
            failures = 0 if self.copied > before else failures + 1
            found = self._look()
            while self.problem and not self._leave.wait(_AGAIN_S):
                found = self._look()
            if isinstance(found, dict) and self._finish(copy, found):
                found = _exited(found["State"])
            if isinstance(found, Exited | Lost):
                self.ended = found
                return
            self._leave.wait(min(_AGAIN_S * failures, _SELDOM_S))

    def _read(self, feed: Callable[[Iterable[Frame]], bool], **options: Any) -> bool:
        """Whether the engine gave all that was asked for."""
        try:
            with EngineStream(self.container, **options) as self._stream:
                if self._leave.is_set():
                    return False
                return feed(self._counted(self._stream.frames()))
        except (RunnerError, MissingContainerError):
            return False
        finally:
            self._stream = None

    def _counted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.copied += 1
            yield frame

    def _look(self) -> State | dict[str, Any] | None:
        """What the engine knows of a container that has ended; None when it runs, or nobody knows."""
        try:
            found = inspect(self.container)
        except MissingContainerError:
            return Lost("The container is gone: somebody removed it.")
        except RunnerError as error:
            self.problem, self._was_away = str(error), True
            return None
        self.problem = ""
        if found["State"]["Status"] == "created" and _age_s(found["Created"]) > _CREATED_S:
            return Lost("The container was created, but never started: whoever was to do that ended meanwhile.")
        if found["State"]["Status"] not in _ALIVE:
            return found
        self._was_away = False
        return None

    def _finish(self, copy: _Copy, found: dict[str, Any]) -> bool:
        """Copy the rest of the log of a container that has ended; False when it runs again.

        Who follows is let go before the engine has told the last line, if that has no end. So it is asked once more.
        """
        deadline = time.monotonic() + LOG_END_S
        was_away = self._was_away
        while not self._rest(copy):
            before = self.copied
            if self._leave.wait(_AGAIN_S):
                return False
            if self.copied > before:
                deadline = time.monotonic() + LOG_END_S
            if time.monotonic() > deadline:
                copy.say(f"[kennel]: the log ends here: the engine did not give the rest of it within {LOG_END_S:g} s")
                break
        copy.finish()
        if was_away:
            copy.say(_AWAY)
        return not self._is_restarted(found)

    def _rest(self, copy: _Copy) -> bool:
        for tail in _TAILS:
            if self._read(partial(copy.append, tail=tail), follow=False, tail=tail):
                return True
        return self._read(copy.resume, follow=False)

    def _is_restarted(self, found: dict[str, Any]) -> bool:
        """Whether the container runs again: `docker restart` ends it first."""
        if self.is_ours or not self._is_killed(found):
            return False
        deadline = time.monotonic() + _RESTART_S
        while time.monotonic() < deadline and not self.is_ours and not self._leave.wait(_AGAIN_S):
            now = self._look()
            if now is None or (isinstance(now, dict) and now["State"]["StartedAt"] != found["State"]["StartedAt"]):
                return True
            if isinstance(now, Lost):
                return False
        return False

    def _is_killed(self, found: dict[str, Any]) -> bool:
        """Whether somebody told the container to end; a program that ends by itself need not be waited for."""
        since = found["State"]["StartedAt"]
        options = ("--since", since, "--until", found["State"]["FinishedAt"], "--format={{.Action}}")
        try:
            return bool(docker("events", *options, f"--filter=container={self.container}", "--filter=event=kill"))
        except (RunnerError, MissingContainerError):
            return True  # nobody knows


class _Copy:
    """The place in a container's log, and what is written from there on."""

    def __init__(self, writer: LogWriter, container: str) -> None:
        self._writer = writer
        self._container = container
        at = writer.last(f'"of": "{container}"').get("at") or [0, 0]
        self._at = {STDOUT: at[0], STDERR: at[1]}
        self._lines = Lines(self._at, container)
        self._known: deque[Frame] = deque(maxlen=_KNOWN)

    def resume(self, frames: Iterable[Frame]) -> bool:
        """Copy what is new in a log that is read from its beginning."""
        self._lines = Lines(self._at, self._container)
        self._known.clear()
        for frame in frames:
            self._take(frame)
        return True

    def append(self, frames: Iterable[Frame], tail: int) -> bool:
        """Copy what is new in the last frames of a log; False when they do not say what that is."""
        found = list(frames)
        if len(found) < tail:  # that is the whole log
            return self.resume(found)
        places = [place for place in range(1, len(found) + 1) if self._is_known(found, place)]
        if len(places) != 1:  # the pieces of a long line can be the same
            return False
        for frame in found[places[0] :]:
            self._take(frame)
        return True

    def _is_known(self, found: list[Frame], place: int) -> bool:
        """Whether the frames before a place are the last ones that were copied."""
        count = min(place, len(self._known))
        return bool(count) and found[place - count : place] == list(self._known)[-count:]

    def _take(self, frame: Frame) -> None:
        self._known.append(frame)
        lines = list(self._lines.feed(frame))
        if lines:
            self._writer.write(lines)

    def finish(self) -> None:
        """The container has ended."""
        self._writer.write(self._lines.finish())

    def say(self, text: str) -> None:
        """Words of our own."""
        self._writer.write([encode(time.time_ns() // 1_000_000, text.encode())])


@lru_cache(maxsize=8)
def _second(stamp: bytes) -> int:
    return int(datetime.fromisoformat(stamp.decode() + "+00:00").timestamp()) * 1000


def _milliseconds(stamp: bytes) -> int:
    """Since 1970, of the engine's time, which has nanoseconds and is in UTC."""
    fraction = stamp[20:].rstrip(b"Z")
    return _second(stamp[:19]) + int(fraction[:3].ljust(3, b"0") or 0)


def _age_s(created: str) -> float:
    return time.time() - _second(created[:19].encode()) / 1000


def _exited(state: dict[str, Any]) -> Exited:
    reason = "memory ran out (the engine killed it)" if state.get("OOMKilled") else str(state.get("Error") or "")
    return Exited(int(state["ExitCode"]), reason)
