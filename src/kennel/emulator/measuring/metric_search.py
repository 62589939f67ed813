"""The server's side of metric_worker.py: a process that is started when there is something to search in."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kennel.emulator.measuring import metric_worker


class SearchError(Exception):
    """The process that searches has ended. The message says how."""


@dataclass(frozen=True)
class Found:
    """What was found in the first of some texts."""

    values: list[list[str | None]]  # of each text, the value of each expression
    slow: list[int]  # the expressions that took too long and are not searched for any more


class MetricSearch:
    """Searches texts for the first groups of expressions, in a process of its own."""

    def __init__(self, expressions: Sequence[str]) -> None:
        """Nothing is started yet."""
        self._expressions = list(expressions)
        self._process: subprocess.Popen[str] | None = None

    def find(self, texts: Sequence[str]) -> Found:
        """Search at least the first text, and for about a second.

        Raises:
            SearchError: the process has ended.
        """
        process = self._process or self._start()
        try:
            _send(process, list(texts))
            answer: dict[str, Any] = json.loads(process.stdout.readline() if process.stdout else "")
        except (OSError, ValueError) as error:
            raise SearchError(f"The search for metrics ended with status {process.poll()}.") from error
        return Found(answer["found"], answer["slow"])

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-I", "-S", metric_worker.__file__]  # without site-packages it starts at once
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        self._process = process
        with contextlib.suppress(OSError):  # `find` will see it
            _send(process, self._expressions)
        return process

    def close(self) -> None:
        """End the process. May be repeated; another search starts another one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()  # it keeps nothing
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what could not be sent any more
                if stream:
                    stream.close()
        process.wait()


def _send(process: subprocess.Popen[str], value: object) -> None:
    assert process.stdin is not None  # noqa: S101 - asked for above
    process.stdin.write(json.dumps(value) + "\n")
    process.stdin.flush()
