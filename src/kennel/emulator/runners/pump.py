"""Takes a program's lines into its log: at once, and when the disk is full, later."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from kennel.emulator.line_files import LineFile

_LINE_BYTES = 256 * 1024  # CloudWatch's largest event
_WAITING_BYTES = 16 << 20  # of lines that wait for room; further ones are lost, and counted
_AT_ONCE_BYTES = 1 << 20  # are written
_AGAIN_S = 0.5
_PERSISTENT_S = 60.0  # for room after the program's end; later its end is told without the rest of its log
_OTHERS_S = 5.0  # for what a descendant that got away keeps open


class Pump:
    """One program's lines, each with the time at which it came. The program never waits for the disk."""

    def __init__(self, pipe: IO[bytes], log_file: Callable[[], Path], reserve: Path) -> None:
        """Begin.

        Args:
            pipe: both of the program's streams.
            log_file: asked when the first line has come.
            reserve: a file whose room is given to the last lines: those of a program that has filled the disk say so.
        """
        self._reserve = reserve
        self._pipe = pipe
        self._log_file = log_file
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._lost = 0
        self._is_read = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._reader.start()
        self._writer.start()

    def finish(self) -> None:
        """The program has ended: wait until its lines are in the log, as long as that may take."""
        self._reader.join(_OTHERS_S)
        self._reserve.unlink(missing_ok=True)
        with self._changed:
            self._is_read = True
            self._changed.notify_all()
        self._writer.join(_PERSISTENT_S)

    def _read(self) -> None:
        """A line that a kill cut short counts as one."""
        while line := self._pipe.readline(_LINE_BYTES):
            event = _event(line.decode("utf-8", "replace").rstrip("\r\n"))
            with self._changed:
                if self._waiting_bytes > _WAITING_BYTES:
                    self._lost += 1
                    continue
                self._waiting.append(event)
                self._waiting_bytes += len(event)
                self._changed.notify_all()
        with self._changed:
            self._is_read = True
            self._changed.notify_all()

    def _write(self) -> None:
        log: LineFile | None = None
        while lines := self._next():
            count = len(lines)
            while lines:
                try:
                    log = log or LineFile(self._log_file())
                    log.append(b"".join(lines[:count]))
                except OSError:  # a full disk must not end the program, nor lose its lines
                    if count == 1:
                        time.sleep(_AGAIN_S)
                    count = max(1, count // 2)
                else:
                    del lines[:count]

    def _next(self) -> list[bytes]:
        """Some lines that wait; nothing when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._lost or self._is_read)
            count = size = 0
            while count < len(self._waiting) and (not count or size + len(self._waiting[count]) <= _AT_ONCE_BYTES):
                size += len(self._waiting[count])
                count += 1
            lines, self._waiting = self._waiting[:count], self._waiting[count:]
            self._waiting_bytes -= size
            if not self._waiting and self._lost:
                lines.append(_event(f"{self._lost} lines are missing here: the disk was full, and no more were kept."))
                self._lost = 0
            return lines


def _event(text: str) -> bytes:
    return (json.dumps({"timestamp": time.time_ns() // 1_000_000, "message": text}) + "\n").encode()
