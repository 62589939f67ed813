"""Who asks the fork servers (fork_server.py): one for each program and set of variables, started when first wanted.

A server needs seconds for its imports, and nobody waits for it: until it is ready, runs are started as ever.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kennel.contract.programs import FORK_SERVER
from kennel.emulator.runners.base import RunnerError
from kennel.emulator.runners.child import raise_problem

_SERVERS = 2  # at a time; each has a few hundred megabytes, which it shares with what it has forked
_ANSWER_S = 10.0  # a fork takes milliseconds


@dataclass(frozen=True)
class Preload:
    """A module that is run as a program, and the module whose `preload()` imports what it needs."""

    program: str
    module: str


class ForkServers:
    """Those of one emulator, with which they end. Safe for threads."""

    def __init__(self, log_file: Path) -> None:
        """What the servers have to say goes to a file."""
        self._log_file = log_file
        self._servers: dict[object, _Server] = {}
        self._lock = threading.Lock()

    def start(self, preload: Preload, identity: str, environ: Mapping[str, str], folder: Path) -> bool:
        """Have the run of `folder` forked; False when there is no server that is ready, and one was started.

        Args:
            preload: what is run.
            identity: changes when the program does.
            environ: the variables of the server, which those of the run must not contradict.
            folder: has the launch.json.

        Raises:
            RunnerError: the program could not be started.
        """
        if sys.platform != "linux":  # elsewhere a forked process may not use the system's libraries
            return False
        key = (preload, identity, tuple(sorted(environ.items())))
        with self._lock:
            server = self._servers.get(key)
            if server is None or server.has_ended:
                self._replace(key, preload, environ)
                return False
            return server.start(folder)

    def _replace(self, key: object, preload: Preload, environ: Mapping[str, str]) -> None:
        if key in self._servers:
            self._servers.pop(key).end()
        for oldest in list(self._servers)[: -(_SERVERS - 1)]:
            self._servers.pop(oldest).end()
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        self._servers[key] = _Server(preload, environ, self._log_file)


class _Server:
    def __init__(self, preload: Preload, environ: Mapping[str, str], log_file: Path) -> None:
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", FORK_SERVER, preload.program, preload.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environ),
                bufsize=0,
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )
        self._is_ready = False
        self.end = weakref.finalize(self, _end, self._process)  # at the latest with this interpreter

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def start(self, folder: Path) -> bool:
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        try:
            self._is_ready = self._is_ready or self._answer(0) is not None
            if not self._is_ready:
                return False
            self._process.stdin.write(os.fsencode(folder) + b"\n")
            problem = self._answer(_ANSWER_S)
        except (OSError, EOFError):  # nobody had asked for so long that it has ended
            self.end()
            return False
        if problem is None:
            self.end()
            raise RunnerError(f"The process that forks programs did not answer within {_ANSWER_S:g} s.")
        if problem:
            raise_problem(problem)
        return True

    def _answer(self, timeout_s: float) -> str | None:
        """The next line; None when none has come in time.

        Raises:
            EOFError: none will.
        """
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        poll = select.poll()  # unlike select, for any number of open files
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(1000 * timeout_s):
            return None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError
        return line.decode("utf-8", "replace").strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    """What it has forked goes on."""
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    process.wait()
