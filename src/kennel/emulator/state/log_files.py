"""What CloudWatch Logs would keep: a folder for each log group, a file of JSON lines for each stream.

Several processes may append to a stream; a line is there whole or not at all, and one that a kill left unfinished is
not read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from kennel.emulator.state.line_files import append
from kennel.emulator.state.log_lines import reversed_lines

_LOG = logging.getLogger(__name__)
TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_LOGS = "/aws/sagemaker/TransformJobs"
PROCESSING_LOGS = "/aws/sagemaker/ProcessingJobs"  # where rules of training jobs print
ENDPOINT_LOGS = "/aws/sagemaker/Endpoints"  # followed by /NAME
WARNING_LOGS = "/kennel/warnings"  # what a request asked for and the emulator does not do
_GROUP = re.compile(r"(/[A-Za-z0-9_#-][.A-Za-z0-9_#-]*)+")  # CloudWatch's characters; no part begins with a dot
_MAX_FILE_NAME_BYTES = 255


@dataclass(frozen=True)
class LogEvent:
    """One line of a log, and the bytes of the file that hold it."""

    timestamp_ms: int
    message: str
    start: int
    end: int


class LogFiles:
    """The log groups below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, group: str, stream: str) -> Path:
        """Where a stream is kept, whether it is there or not.

        Raises:
            ValueError: the names cannot be those of a group and a stream.
        """
        name = quote(stream, safe="").replace(".", "%2E")
        if not name or len(name) > _MAX_FILE_NAME_BYTES:
            raise ValueError(f"'{stream}' is no log stream's name; use 1 to about 200 characters.")
        return self._group(group) / name

    def append(self, group: str, stream: str, messages: Iterable[str], timestamp_ms: int | None = None) -> None:
        """Add events, all of them or none; the stream is made when it is not there."""
        now_ms = time.time_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms
        lines = [json.dumps({"timestamp": now_ms, "message": message}) + "\n" for message in messages]
        append(self.file(group, stream), "".join(lines).encode())

    def note(self, group: str, stream: str, messages: Sequence[str]) -> None:
        """Add events, unless there is no room: what is noted is worth less than the job that it is about."""
        try:
            self.append(group, stream, messages)
        except OSError as error:
            _LOG.warning("%s could not be noted in %s: %s", messages, stream, error)

    def read(self, group: str, stream: str, start: int = 0) -> Iterator[LogEvent]:
        """The events from byte `start` on, in the order in which they came; none when there is no such stream."""
        try:
            file = self.file(group, stream).open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                with contextlib.suppress(ValueError):  # what a killed writer left, with the next line glued to it
                    value = json.loads(line)
                    yield LogEvent(value["timestamp"], value["message"], start, start + len(line))
                start += len(line)

    def read_back(self, group: str, stream: str, end: int) -> Iterator[LogEvent]:
        """The events before byte `end`, from the last one on; none when there is no such stream."""
        try:
            file = self.file(group, stream).open("rb")
        except FileNotFoundError:
            return
        with file:
            for start, line in reversed_lines(file.fileno(), min(end, file.seek(0, os.SEEK_END))):
                with contextlib.suppress(ValueError):
                    value = json.loads(line)
                    yield LogEvent(value["timestamp"], value["message"], start, start + len(line))

    def first_and_last(self, group: str, stream: str) -> tuple[LogEvent, LogEvent] | None:
        """The two ends of a stream, or None while it is empty."""
        first = next(self.read(group, stream), None)
        if first is None:
            return None
        return first, next(self.read_back(group, stream, sys.maxsize), first)

    def streams(self, group: str, prefix: str = "") -> list[str]:
        """The streams of a group in alphabetical order; none when there is no such group."""
        folder = self._group(group)
        names = [unquote(path.name) for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        return sorted(name for name in names if name.startswith(prefix))

    def has_group(self, group: str) -> bool:
        """Whether the group is there.

        Raises:
            ValueError: the name cannot be that of a group.
        """
        return self._group(group).is_dir()

    def groups(self, prefix: str = "") -> list[str]:
        """The groups that have a stream, in alphabetical order."""
        found = {"/" + str(path.parent.relative_to(self._folder)) for path in self._folder.rglob("*") if path.is_file()}
        return sorted(group for group in found if group.startswith(prefix))

    def delete(self, group: str, prefix: str) -> None:
        """Remove the streams of a group whose names begin with `prefix`."""
        for stream in self.streams(group, prefix):
            self.file(group, stream).unlink(missing_ok=True)

    def _group(self, group: str) -> Path:
        if not _GROUP.fullmatch(group):
            raise ValueError(f"'{group}' is no log group here; it begins with / and has letters, digits and -_#.")
        return self._folder / group[1:]
