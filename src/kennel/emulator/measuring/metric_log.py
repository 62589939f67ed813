"""Reads a job's metrics out of its logs by the regular expressions of its MetricDefinitions.

Source: SageMaker developer guide, "Define Training Metrics": the first group of an expression is the value. The metrics
of all hosts make one series, in the order of their times.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.emulator.measuring.metric_search import MetricSearch, SearchError
from kennel.emulator.measuring.metric_worker import LIMIT_S
from kennel.emulator.state.line_files import append

_READ_BYTES = 1 << 20  # of a log at once


def metric_refusals(request: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about expressions that can find nothing."""
    for definition in request.get("AlgorithmSpecification", {}).get("MetricDefinitions") or []:
        name, regex = definition["Name"], definition["Regex"]
        try:
            groups = re.compile(regex).groups
        except re.error as error:
            yield f"MetricDefinitions: the Regex of '{name}', '{regex}', is none: {error}. Correct it."
            continue
        if not groups:
            yield f"MetricDefinitions: the Regex of '{name}', '{regex}', has no group. Put the number in parentheses."


@dataclass(frozen=True)
class _Line:
    """A line of a log."""

    timestamp_s: float
    text: str


class MetricLog:
    """The metrics of one job, from log files that grow."""

    def __init__(self, definitions: list[dict[str, str]], file: Path, warn: Callable[[str], None]) -> None:
        """Begin the series anew in `file`: it is read from the logs again after a restart.

        Args:
            definitions: of the request.
            file: gets a line for each value.
            warn: is told which metric is not searched for any more.
        """
        self._names = [definition["Name"] for definition in definitions]
        self._search = MetricSearch([definition["Regex"] for definition in definitions])
        self._file = file
        self._warn = warn
        self._read_bytes: dict[Path, int] = {}
        self._pending: list[_Line] = []  # read, and not searched yet
        self._unkept = ""  # lines for the file
        self._last: dict[str, dict[str, Any]] = {}
        if self._names:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)

    def update(self, logs: list[Path], limit_s: float) -> bool:
        """Read what the logs have more, for about so long; whether there was a new value."""
        deadline, found = time.monotonic() + limit_s, False
        while self.is_behind(logs):
            found |= self._take()
            if time.monotonic() > deadline:
                break
        return found

    def final(self) -> list[dict[str, Any]]:
        """FinalMetricDataList: the last value of each metric."""
        return [
            {"MetricName": name, "Value": value["value"], "Timestamp": value["timestamp"]}
            for name, value in self._last.items()
        ]

    def is_behind(self, logs: list[Path]) -> bool:
        """Whether the logs have more than was searched."""
        if self._names and not self._pending:  # of several streams, the lines may come out of their order
            self._pending = sorted(
                (line for log in logs for line in self._lines(log)), key=lambda line: line.timestamp_s
            )
        return bool(self._names and self._pending)

    def close(self) -> None:
        """Nothing is read any more."""
        self._search.close()

    def _lines(self, log: Path) -> Iterator[_Line]:
        try:
            with log.open("rb") as file:
                file.seek(self._read_bytes.get(log, 0))
                lines = file.readlines(_READ_BYTES)
        except FileNotFoundError:
            return
        for line in lines:
            if not line.endswith(b"\n"):
                return
            self._read_bytes[log] = self._read_bytes.get(log, 0) + len(line)
            with contextlib.suppress(ValueError):  # what a killed writer left
                event = json.loads(line)
                yield _Line(event["timestamp"] / 1000, event["message"])

    def _take(self) -> bool:
        """Search the first of the lines that are pending."""
        try:
            found = self._search.find([line.text for line in self._pending])
        except SearchError as error:
            self._warn(f"No metrics are read from the log any more: {error}")
            self._names = []
            return False
        values: list[dict[str, Any]] = []
        for line, texts in zip(self._pending, found.values, strict=False):
            values += self._values(line, texts)
        self._pending = self._pending[len(found.values) :]
        for index in found.slow:
            self._warn(
                f"MetricDefinitions: the Regex of '{self._names[index]}' took more than {LIMIT_S:g} s on one line of "
                "the log; that metric is not read any more. Write it without one repetition inside another."
            )
        return self._keep(values)

    def _values(self, line: _Line, texts: list[str | None]) -> Iterator[dict[str, Any]]:
        for name, text in zip(self._names, texts, strict=True):
            with contextlib.suppress(ValueError, TypeError):  # not a number, or a group that took no part
                value = float(text)  # type: ignore[arg-type]
                if math.isfinite(value):  # CloudWatch takes no other
                    yield {"timestamp": line.timestamp_s, "name": name, "value": value}

    def _keep(self, values: list[dict[str, Any]]) -> bool:
        self._last |= {value["name"]: value for value in values}
        self._unkept += "".join(json.dumps(value) + "\n" for value in values)
        with contextlib.suppress(OSError):  # a full disk; the next look, or the end, tries again
            self.keep()
        return bool(values)

    def keep(self) -> None:
        """Write the values that were found and not written yet.

        Raises:
            OSError: there is no room for them.
        """
        if self._unkept:
            append(self._file, self._unkept.encode())
            self._unkept = ""
