"""Reads a job's metrics out of its logs by the regular expressions of its MetricDefinitions.

Source: SageMaker developer guide, "Define Training Metrics": the first group of an expression is the value. The metrics
of all hosts make one series, in the order of their times.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_LINE_CHARS = 4096  # of a line are searched, so that a slow expression has an end


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


class MetricLog:
    """The metrics of one job, from log files that grow."""

    def __init__(self, definitions: list[dict[str, str]], file: Path) -> None:
        """Begin the series anew in `file`: it is read from the logs again after a restart."""
        self._patterns = [(d["Name"], re.compile(d["Regex"])) for d in definitions]
        self._file = file
        self._read_bytes: dict[Path, int] = {}
        self._last: dict[str, dict[str, Any]] = {}
        if self._patterns:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)

    def update(self, logs: list[Path]) -> bool:
        """Read what the logs have more; whether there was a new value."""
        if not self._patterns:
            return False
        found = sorted((value for log in logs for value in self._new(log)), key=lambda value: float(value["timestamp"]))
        for value in found:
            self._last[value["name"]] = value
        if found:
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(value) + "\n" for value in found)
        return bool(found)

    def final(self) -> list[dict[str, Any]]:
        """FinalMetricDataList: the last value of each metric."""
        return [
            {"MetricName": name, "Value": value["value"], "Timestamp": value["timestamp"]}
            for name, value in self._last.items()
        ]

    def _new(self, log: Path) -> Iterator[dict[str, Any]]:
        try:
            with log.open("rb") as file:
                file.seek(self._read_bytes.get(log, 0))
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            if not line.endswith(b"\n"):
                return
            self._read_bytes[log] = self._read_bytes.get(log, 0) + len(line)
            event = json.loads(line)
            yield from self._values(event["message"][:_LINE_CHARS], event["timestamp"] / 1000)

    def _values(self, text: str, timestamp_s: float) -> Iterator[dict[str, Any]]:
        for name, pattern in self._patterns:
            found = pattern.search(text)
            if not found:
                continue
            with contextlib.suppress(ValueError, TypeError):  # not a number, or a group that took no part
                value = float(found.group(1))
                if math.isfinite(value):  # CloudWatch takes no other
                    yield {"timestamp": timestamp_s, "name": name, "value": value}
