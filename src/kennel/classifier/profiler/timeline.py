"""Spans of a process as files in Chrome's trace format, where SageMaker's profiler and smdebug's readers expect them.

The layout is that of smdebug 1.0.34 (core/tfevent/timeline_file_writer.py, core/locations.py): a file is written beside
the folder of the finished ones, and moved there, named by its last moment, when it is 60 s old or 10 MB large. Here it
is whole JSON after every write, so what a killed process leaves needs a new name at most; see `finish`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)
TRAIN, EVAL = "Step:ModeKeys.TRAIN", "Step:ModeKeys.EVAL"  # smdebug's names of a step's two modes
# Phases in the order in which a viewer shows them; a phase's place is its id in every file.
PHASES = (
    TRAIN,
    EVAL,
    "DataLoaderIter",
    "HostToDevice",
    "Forward",
    "Backward(post-forward)",
    "Optimizer",
    "Synchronize",
    "Debugger",
    "GPU",
    "DataLoaderWorker",
    "DataLoaderIterInitialize",
    "Validation",
    "Checkpoint",
    "Initialization",
    "Finalization",
)
_SUFFIX = "pythontimeline.json"
_TEMPORARY = re.compile(r"(?P<pid>\d+)-(?P<node>.+)_pythontimeline\.json\.tmp")
_END = b"\n]\n"
_ADVICE = "The training goes on without the profiler's newest events."


@dataclass(frozen=True)
class Rotation:
    """When a file is finished and the next one begun; the defaults are SageMaker's."""

    max_bytes: int = 10_485_760
    max_s: float = 60.0
    failures: int = 50  # files in a row that could not be opened, after which no more are tried


@dataclass(frozen=True)
class Clock:
    """Microseconds since 1970 that never jump: the wall's at one moment, and what has passed since."""

    wall_us: int
    monotonic_ns: int

    @classmethod
    def now(cls) -> Clock:
        """Set it by the wall clock."""
        return cls(time.time_ns() // 1000, time.monotonic_ns())

    def us(self, monotonic_ns: int) -> int:
        """When something was, by time.monotonic_ns, which all processes of a machine share."""
        return self.wall_us + (monotonic_ns - self.monotonic_ns) // 1000


class Timeline:
    """Takes spans and writes them, a little at a time; never raises for a disk that is full.

    Args:
        folder: the profile's.
        node: `algo-1` and so on; has no underscore.
        rotation: when a file is finished.
        clock: the zero of all times in the files.
        flush_s: a kill loses at most so many seconds of spans.
    """

    def __init__(
        self,
        folder: Path,
        node: str,
        *,
        rotation: Rotation | None = None,
        clock: Clock | None = None,
        flush_s: float = 2.0,
    ) -> None:
        self.folder, self.node, self.pid = folder, node, os.getpid()
        self.clock = clock or Clock.now()
        self._rotation, self._flush_s = rotation or Rotation(), flush_s
        self._waiting: list[tuple[int, str, int, int, Mapping[str, Any], int | None]] = []
        self._file: int | None = None
        self._size = self._failures = 0
        self._opened_s = self._flushed_s = time.monotonic()
        self._last_us = 0
        self._args_pid = {"pid": self.pid}

    @property
    def path(self) -> Path:
        """The file that is being written."""
        return self.folder / f"framework/{self.pid}-{self.node}_{_SUFFIX}.tmp"

    def add(
        self, phase: str, start_ns: int, end_ns: int, args: Mapping[str, Any], *, name: str = "", tid: int | None = None
    ) -> None:
        """Note a span.

        Args:
            phase: one of `PHASES`.
            start_ns: by time.monotonic_ns.
            end_ns: the same.
            args: what belongs to it; plain values.
            name: of the event, where it is not its phase's.
            tid: the row within the phase.
        """
        self._waiting.append((PHASES.index(phase) + 1, name or phase, start_ns, end_ns, args, tid))

    def flush_when_due(self) -> None:
        """Write what waits if the last time is long enough ago; cheap otherwise."""
        if time.monotonic() - self._flushed_s >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        """Write what waits; what a full disk does not take is dropped with one warning."""
        self._flushed_s = time.monotonic()
        waiting, self._waiting = self._waiting, []
        try:
            if self._file is not None and self._is_due():
                self._finish()
            if waiting and self._open():
                self._write("".join(f",\n{line}" for line in map(self._line, waiting)).encode())
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Write what waits and give the last file its name."""
        self.flush()
        try:
            self._finish()
        except OSError as error:
            self._fail(error)

    def _line(self, event: tuple[int, str, int, int, Mapping[str, Any], int | None]) -> str:
        phase, name, start_ns, end_ns, args, tid = event
        start_us, end_us = self.clock.us(start_ns), self.clock.us(end_ns)
        self._last_us = max(self._last_us, end_us)
        row = {"tid": tid} if tid is not None else {}
        return json.dumps(
            {
                "name": name, "ph": "X", "pid": phase, "ts": start_us - self.clock.wall_us, "dur": end_us - start_us,
                **row, "args": {**self._args_pid, **args},
            },
            separators=(",", ":"),
        )  # fmt: skip

    def _is_due(self) -> bool:
        return self._size >= self._rotation.max_bytes or time.monotonic() - self._opened_s >= self._rotation.max_s

    def _open(self) -> bool:
        if self._file is not None:
            return True
        if self._failures >= self._rotation.failures:
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self._size, self._opened_s = 0, time.monotonic()
        self._write(b"[\n" + ",\n".join(map(json.dumps, _head(self.clock.wall_us))).encode())
        self._failures = 0
        return True

    def _write(self, data: bytes) -> None:
        """Put it in the place of the array's end, with a new end."""
        assert self._file is not None  # noqa: S101 - the callers have opened it
        if os.pwrite(self._file, data + _END, self._size) < len(data + _END):
            os.ftruncate(self._file, self._size)
            os.pwrite(self._file, _END, self._size)  # where it was before
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(data)

    def _finish(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
            _move(self.path, self.folder, self._last_us, f"{self.pid}-{self.node}")

    def _fail(self, error: OSError) -> None:
        if self._failures == 0:
            _LOG.warning("The profiler cannot write %s: %s. %s", self.path, error.strerror or error, _ADVICE)
        self._failures += 1


def _head(wall_us: int) -> Iterator[dict[str, Any]]:
    """The zero of the times, and the names of the phases."""
    yield {"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros": wall_us}}
    yield {"name": "process_sort_index", "ph": "M", "pid": 0, "args": {"sort_index": 0}}
    for number, phase in enumerate(PHASES, 1):
        yield {"name": "process_name", "ph": "M", "pid": number, "args": {"name": phase}}
        yield {"name": "process_sort_index", "ph": "M", "pid": number, "args": {"sort_index": number}}


def _move(path: Path, folder: Path, end_us: int, writer: str) -> Path:
    hour = time.strftime("%Y%m%d%H", time.gmtime(end_us / 1e6))
    target = folder / f"framework/pevents/{hour}/{end_us}_{writer}_{_SUFFIX}"
    target.parent.mkdir(parents=True, exist_ok=True)
    return path.replace(target)


def finish(folder: Path, node: str) -> list[Path]:
    """Give the files that killed processes of a node left behind the names of finished ones.

    Args:
        folder: the profile's.
        node: whose; process ids of other nodes mean nothing here. A file of this process's own id is an older one's.

    Returns:
        the finished files. One that a kill cut in the middle of a write loses what comes after its last whole event.
    """
    found = []
    for path in sorted((folder / "framework").glob(f"*-{node}_{_SUFFIX}.tmp")):
        name = _TEMPORARY.fullmatch(path.name)
        if name is None or (int(name["pid"]) != os.getpid() and is_alive(int(name["pid"]))):
            continue
        events = whole_events(path.read_bytes())
        ends = [event["ts"] + event["dur"] for event in events if event["ph"] == "X"]
        if not ends:
            path.unlink()
            continue
        path.write_text("[\n" + ",\n".join(map(json.dumps, events)) + "\n]\n")
        zero = next(e["args"]["start_time_since_epoch_in_micros"] for e in events if e["ph"] == "M")
        found.append(_move(path, folder, zero + max(ends), f"{name['pid']}-{node}"))
    return found


def whole_events(data: bytes) -> list[dict[str, Any]]:
    """The events of a file, those before the cut where it was cut off."""
    found = []
    for line in data.decode(errors="replace").splitlines():
        text = line.strip().rstrip(",")
        if text not in ("", "[", "]"):
            try:
                found.append(json.loads(text))
            except ValueError:
                break
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        pass
    if Path("/proc/self").exists():
        return False
    try:  # not Linux
        os.kill(pid, 0)
    except OSError:
        return False
    return True
