"""Copies a container's output into a log file, each line once, however often the copying is begun anew."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ?(.*)", re.DOTALL)
_LINE_BYTES = 256 * 1024  # CloudWatch's largest event


def follow(container: str, log_file: Path) -> None:
    """Append what the container has printed and prints, with docker's own times; returns when it has ended.

    docker lets go of who follows before it has told the last line, if that has no end; so it is asked once more.
    """
    _copy(container, log_file, "--follow")
    _copy(container, log_file)


def _copy(container: str, log_file: Path, *options: str) -> None:
    last_ms, repeated = _last(log_file)
    since = ["--since", datetime.fromtimestamp(last_ms / 1000, UTC).isoformat()] if last_ms else []
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with (
        subprocess.Popen(
            ["docker", "logs", *options, "--timestamps", *since, container],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
        log_file.open("ab", buffering=0) as log,
    ):
        assert process.stdout is not None  # noqa: S101 - asked for above
        lines = iter(lambda: process.stdout.readline(_LINE_BYTES) if process.stdout else b"", b"")
        for timestamp_ms, message in _new(map(_parse, lines), last_ms, repeated):
            with contextlib.suppress(OSError):  # a full disk; the next line may fit
                log.write((json.dumps({"timestamp": timestamp_ms, "message": message}) + "\n").encode())


def _parse(line: bytes) -> tuple[int, str] | None:
    """Milliseconds since 1970 and the text; None for what docker itself says, which has no time."""
    found = _STAMPED.match(line.decode("utf-8", "replace"))
    if not found:
        return None
    second, fraction, zone, text = found.groups()
    at = datetime.fromisoformat(second + ("+00:00" if zone == "Z" else zone))
    return int(at.timestamp()) * 1000 + int((fraction or "0").ljust(3, "0")[:3]), text.rstrip("\r\n")


def _new(events: Iterator[tuple[int, str] | None], last_ms: int, repeated: int) -> Iterator[tuple[int, str]]:
    """The events that the file does not have yet: those after its last time, and of that time all but the first."""
    for event in events:
        if event is None or event[0] < last_ms:
            continue
        if event[0] == last_ms and repeated:
            repeated -= 1
            continue
        yield event


def _last(log_file: Path) -> tuple[int, int]:
    """The last time in the file, and how many events have it."""
    last_ms = count = 0
    if log_file.exists():
        for line in log_file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                timestamp_ms = json.loads(line)["timestamp"]
                count = count + 1 if timestamp_ms == last_ms else 1
                last_ms = timestamp_ms
    return last_ms, count
