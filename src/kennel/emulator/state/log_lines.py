r"""From the bytes that a program printed to the events of its log, the same way for both runners.

An event is a line without its `\n`; nothing else is taken away: `\r`, blanks, colours and NUL stay, and a blank line
is an event with an empty message. Bytes that are no UTF-8 become U+FFFD. What is longer than CloudWatch's largest
event becomes several, which put together are the line; they end after a `\r` where there is one in their second half,
and never within a character. What comes after the last `\n` is an event when the program has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kennel.emulator.state.line_files import write_whole

EVENT_BYTES = 256 * 1024 - 26  # CloudWatch's largest event, of which it counts 26 bytes beside the message
_REPLACED_BYTES = 3  # U+FFFD in UTF-8, for each byte at most
_FULL_S = 0.5  # between two tries to write on a full disk
_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 10
_TAIL_CHARS = 2000  # of a line


class Cutter:
    """Cuts one stream of bytes into events. At most one event's bytes are held."""

    def __init__(self) -> None:
        """Nothing is held."""
        self._held = bytearray()
        self.end = 0  # bytes of the stream up to the end of the last event

    @property
    def is_holding(self) -> bool:
        """Whether a line has begun."""
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The events that end in `data`; `end` is right at each."""
        *whole, rest = data.split(b"\n")
        for line in whole:
            if self._held:
                line = bytes(self._held + line)  # noqa: PLW2901 - the first of them
                self._held.clear()
            yield from self._finish(line, newline=1)
        self._held += rest
        while len(self._held) > EVENT_BYTES:
            size = _cut(self._held)
            piece = bytes(self._held[:size])
            del self._held[:size]
            self.end += size
            yield piece

    def end_line(self) -> Iterator[bytes]:
        """What is held: no more of this line will come."""
        if self._held:
            line = bytes(self._held)
            self._held.clear()
            yield from self._finish(line, newline=0)

    def _finish(self, line: bytes, newline: int) -> Iterator[bytes]:
        while _is_too_long(line):
            size = _cut(line)
            self.end += size
            yield line[:size]
            line = line[size:]
        self.end += len(line) + newline
        yield line


def _is_too_long(line: bytes) -> bool:
    if len(line) <= EVENT_BYTES // _REPLACED_BYTES:
        return False
    return len(line) > EVENT_BYTES or len(line.decode("utf-8", "replace").encode()) > EVENT_BYTES


def _cut(line: bytes | bytearray) -> int:
    """How many bytes of a line that is too long are its first event."""
    size = EVENT_BYTES
    if len(line[:size].decode("utf-8", "replace").encode()) > size:
        size //= _REPLACED_BYTES
    state = line.rfind(b"\r", size // 2, min(size, len(line) - 1))
    if state >= 0:
        return state + 1
    for back in range(4):  # a character has four bytes at most
        if line[size - back] & 0xC0 != 0x80:
            return size - back
    return size


def encode(timestamp_ms: int, raw: bytes, **more: Any) -> bytes:
    """A line of a log file."""
    event = {"timestamp": timestamp_ms, "message": raw.decode("utf-8", "replace"), **more}
    return (json.dumps(event) + "\n").encode()


class LogWriter:
    """Appends to a log file. What it writes is there as a whole or not at all."""

    def __init__(self, file: Path, is_over: Callable[[], bool] = lambda: False) -> None:
        """Remove the line that a killed writer did not finish.

        On a full disk it waits for room, until `is_over`: what cannot be written is then lost.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a+b", buffering=0)
        self._is_over = is_over
        self._repair()

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _repair(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        back = min(size, _TAIL_BYTES)
        while back:
            self._file.seek(size - back)
            block = self._file.read(back)
            end = block.rfind(b"\n") + 1
            if end or back == size:
                size = size - back + end
                break
            back = min(size, back * 2)
        self._file.truncate(size)

    def last(self, mark: str) -> dict[str, Any]:
        """The last event whose line holds a text; empty when there is none."""
        for _, line in reversed_lines(self._file.fileno(), self._file.seek(0, os.SEEK_END)):
            if mark.encode() in line:
                with contextlib.suppress(ValueError):
                    found: dict[str, Any] = json.loads(line)
                    return found
        return {}

    def write(self, lines: Sequence[bytes]) -> bool:
        """Append lines of `encode`, as many at once as there is room for; False: it was over before all had fitted."""
        rest, count = list(lines), len(lines)
        while rest:
            try:
                write_whole(self._file.fileno(), b"".join(rest[:count]), os.fstat(self._file.fileno()).st_size)
            except OSError:
                if count == 1:
                    if self._is_over():
                        return False
                    time.sleep(_FULL_S)
                count = max(1, count // 2)
            else:
                del rest[:count]
        return True


def reversed_events(file: Path) -> Iterator[dict[str, Any]]:
    """The events of a log file from its end on, read by blocks."""
    try:
        with file.open("rb") as log:
            for _, line in reversed_lines(log.fileno(), log.seek(0, os.SEEK_END)):
                with contextlib.suppress(ValueError):  # what a killed writer left
                    yield json.loads(line)
    except FileNotFoundError:
        return


def reversed_lines(descriptor: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file that end before a place, from the last one on, each with its own place."""
    parts: list[bytes] | None = None  # of a line whose beginning is not read yet, the last one first
    while end:
        size = min(end, _TAIL_BYTES)
        end -= size
        first, *others = os.pread(descriptor, size, end).split(b"\n")
        place = end + size
        for part in reversed(others):
            place -= len(part)
            if parts is not None:
                yield place, b"".join([part, *reversed(parts)]) + b"\n"
            place -= 1
            parts = []
        if parts is not None:
            parts.append(first)
    if parts is not None:
        yield 0, b"".join(reversed(parts)) + b"\n"


def texts(events: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The messages that say something."""
    return (text for text in (str(event["message"]).strip() for event in events) if text)


def last_line(log: Path) -> str:
    """The text of the last line of a log that says something; empty when there is none."""
    return next(texts(reversed_events(log)), "")


def log_tail(log_file: Path, lines: int = _TAIL_LINES) -> list[str]:
    """The last messages of a log, without empty ones."""
    found = texts(reversed_events(log_file))
    return [text[-_TAIL_CHARS:] for text in islice(found, lines)][::-1]
