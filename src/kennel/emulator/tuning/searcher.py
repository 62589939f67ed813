"""The search as a program of its own, so that Optuna and torch cost the server neither its start nor its answers.

A line of JSON in, a line of JSON out: `python -m kennel.emulator.tuning.searcher`. It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kennel.emulator.tuning.problem import GP, Problem, read_problem

_ANSWER_S = 120.0  # the first use of torch takes some seconds


class SearchError(Exception):
    """The program gave no suggestion; the message says why."""


@dataclass(frozen=True)
class _Program:
    """The program, and both ends of the line to it."""

    process: subprocess.Popen[str]
    questions: IO[str]
    answers: IO[str]


class Searcher:
    """Asks the program, which is started when it is needed. Safe for threads, which take turns."""

    def __init__(self, log_file: Path) -> None:
        """`log_file` gets what the program says of itself."""
        self._log_file = log_file
        self._lock = threading.Lock()
        self._program: _Program | None = None
        self._leaving = False

    def suggest(self, problem: Problem) -> dict[str, str]:
        """The next combination.

        Raises:
            SearchError: there is none.
        """
        found: dict[str, str] = self._ask({"do": "suggest", "problem": dataclasses.asdict(problem)})
        return found

    def judge(
        self, problem: Problem, number: int, values: Sequence[tuple[int, float]]
    ) -> tuple[int | None, dict[str, float]]:
        """The epoch with which Hyperband ends a trial, or None, and its notes.

        Raises:
            SearchError: the program fails.
        """
        epoch, rungs = self._ask(
            {"do": "judge", "problem": dataclasses.asdict(problem), "number": number, "values": list(values)}
        )
        return epoch, rungs

    def close(self) -> None:
        """End the program; the next question starts it again."""
        with self._lock:
            self._end()

    def leave(self) -> None:
        """End the program for good, even in the middle of an answer: whoever waits for it gets a SearchError."""
        self._leaving = True
        program = self._program
        if program:
            program.process.kill()
        self.close()

    def _ask(self, question: dict[str, Any]) -> Any:
        with self._lock:
            try:
                answer = self._exchange(question)
            except (OSError, ValueError):  # it was killed, as by a machine that was out of memory
                answer = self._again(question)
        if "error" in answer:
            raise SearchError(answer["error"])
        return answer["answer"]

    def _again(self, question: dict[str, Any]) -> dict[str, Any]:
        self._end()
        if self._leaving:
            raise SearchError("the server ends")
        try:
            return self._exchange(question)
        except (OSError, ValueError) as error:
            self._end()
            raise SearchError(f"the search does not answer: {error}. {self._log_file} may say why") from error

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        program = self._program = self._program or self._start()
        timer = threading.Timer(_ANSWER_S, program.process.kill)
        timer.start()
        try:
            program.questions.write(json.dumps(question) + "\n")
            program.questions.flush()
            answer: dict[str, Any] = json.loads(program.answers.readline())
            return answer
        finally:
            timer.cancel()

    def _start(self) -> _Program:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # several threads make small matrices slower
                start_new_session=True,  # Ctrl-C is the server's to handle
            )
        if process.stdin is None or process.stdout is None:  # they are pipes
            raise RuntimeError("a process without its pipes")
        return _Program(process, process.stdin, process.stdout)

    def _end(self) -> None:
        if self._program is None:
            return
        program, self._program = self._program, None
        program.process.kill()
        program.process.wait()
        for end in (program.questions, program.answers):
            with contextlib.suppress(OSError):  # what was not sent yet
                end.close()


def answer(question: Mapping[str, Any]) -> Any:
    """What the program answers."""
    from kennel.emulator.tuning import search as tuning_search

    problem = read_problem(question["problem"])
    if question["do"] == "suggest":
        return tuning_search.suggest(problem)
    return tuning_search.judge(problem, question["number"], question["values"])


def serve(questions: IO[str], answers: IO[str]) -> None:
    """Answer until there is no question any more."""
    loading: threading.Thread | None = None
    for line in questions:
        question = json.loads(line)
        try:
            reply = {"answer": answer(question)}
        except Exception as error:  # the server makes the tuning job Failed with it
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
        if question["problem"]["engine"] == GP and not loading:  # while the first trials, which need none, run
            loading = threading.Thread(target=importlib.import_module, args=("torch",), daemon=True)
            loading.start()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
