"""Takes what a program prints into its log: at once, and when the disk is full, later."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from kennel.emulator.state.log_lines import Cutter, LogWriter, encode

LOG_END_S = 10  # without a byte, for what a descendant that got away keeps open
_PERSISTENT_S = 60.0  # for room after the program's end; later its end is told without the rest of its log
_READ_BYTES = 64 * 1024  # what a pipe holds
_WAITING_BYTES = 16 << 20  # that wait for room; from then on the program waits, too, when it prints
_AGAIN_S = 0.5
_LOOK_S = 0.2


class Pump:
    """One program's output, each line with the time at which it began to come; nothing of it is lost."""

    def __init__(self, pipe: IO[bytes], log_file: Callable[[threading.Event], Path], reserve: Path) -> None:
        """Begin.

        Args:
            pipe: both of the program's streams.
            log_file: asked when something has come, with an event that is set when the program has ended.
            reserve: a file whose room is given to the last lines: those of a program that has filled the disk say so.
        """
        self._pipe = pipe
        self._log_file = log_file
        self._reserve = reserve
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()  # milliseconds since 1970, and what came then
        self._waiting_bytes = 0
        self._is_read = False
        self._is_over = threading.Event()
        self._moved_at = time.monotonic()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._reader.start()
        self._writer.start()

    def finish(self) -> None:
        """The program has ended: wait until its lines are in the log, as long as that may take.

        What keeps the pipe open without a word, and a disk that stays full, are not waited for without end.
        """
        self._move()
        self._is_over.set()
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        while self._reader.is_alive() and not self._stands_still(LOG_END_S):
            self._reader.join(_LOOK_S)
        is_open = self._reader.is_alive()
        with self._changed:
            self._is_read = True
            self._changed.notify_all()
        while self._writer.is_alive() and not self._stands_still(_PERSISTENT_S):
            self._writer.join(_LOOK_S)
        if is_open and not self._writer.is_alive():
            said = f"[kennel]: the log ends here: {LOG_END_S} s after the program had ended, its output was still open"
            with contextlib.suppress(OSError):  # a full disk; how the program ended is told all the same
                writer = LogWriter(self._log_file(self._is_over), lambda: True)
                writer.write([encode(time.time_ns() // 1_000_000, said.encode())])
                writer.close()

    def _stands_still(self, limit_s: float) -> bool:
        return time.monotonic() - self._moved_at > limit_s

    def _move(self) -> None:
        self._moved_at = time.monotonic()

    def _read(self) -> None:
        while data := os.read(self._pipe.fileno(), _READ_BYTES):
            with self._changed:
                self._changed.wait_for(lambda: self._waiting_bytes < _WAITING_BYTES)
                self._waiting.append((time.time_ns() // 1_000_000, data))
                self._waiting_bytes += len(data)
                self._changed.notify_all()
            self._move()
        with self._changed:
            self._is_read = True
            self._changed.notify_all()

    def _write(self) -> None:
        came = self._next()
        if came is None:
            return
        writer = self._open()
        cutter, began_ms = Cutter(), 0
        while came:
            now_ms, data = came
            began_ms, lines = began_ms if cutter.is_holding else now_ms, []
            for raw in cutter.feed(data):
                lines.append(encode(began_ms, raw))
                began_ms = now_ms
            writer.write(lines)
            self._move()
            came = self._next()
        writer.write([encode(began_ms, raw) for raw in cutter.end_line()])
        writer.close()

    def _next(self) -> tuple[int, bytes] | None:
        """What came next; None when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_read)
            if not self._waiting:
                return None
            came = self._waiting.popleft()
            self._waiting_bytes -= len(came[1])
            self._changed.notify_all()
            return came

    def _open(self) -> LogWriter:
        while True:
            try:
                return LogWriter(self._log_file(self._is_over), self._is_late)
            except OSError:  # no room for a folder, or too many open files: its output waits
                time.sleep(_AGAIN_S)

    def _is_late(self) -> bool:
        return self._is_over.is_set() and self._stands_still(_PERSISTENT_S)
