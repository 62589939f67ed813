"""The parent of a program that is run without a container: it outlives the emulator.

`python -m kennel.emulator.runners.child FOLDER` reads FOLDER/launch.json, leaves its session, starts the program,
appends its lines to the log (of a program that waits for its job, to that of the job), and at the end writes
FOLDER/exit.json. SIGTERM is handed to the program alone; SIGUSR1 kills everything that descends from it. When the
program ends, so does all that it left running, as in a container.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

from kennel.classifier.contract import write_private
from kennel.emulator.log_lines import Cutter, LogWriter, encode
from kennel.emulator.runners import namespaces
from kennel.emulator.runners.base import STANDBY_LABEL
from kennel.emulator.runners.processes import descendants, start_time

LAUNCH, PROCESS, EXIT = "launch.json", "process.json", "exit.json"
_READ_BYTES = 64 * 1024  # what a pipe holds
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_LOG_END_S = 10  # without a byte, for what a descendant that got away keeps open, or a full disk keeps out
_STANDBY_S = 0.01  # between two looks for the job of a program that waits, and has printed something


def read_launch(folder: Path) -> dict[str, Any]:
    """What is run."""
    launch: dict[str, Any] = json.loads((folder / LAUNCH).read_text(encoding="utf-8"))
    return launch


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":  # elsewhere what the program leaves behind is only found by its process group
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class _Pump(threading.Thread):
    """Copies what the program prints into the log, with the time at which each line began to come."""

    def __init__(self, pipe: IO[bytes], folder: Path, launch: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._folder = folder
        self._launch = launch
        self._is_over = threading.Event()
        self._moved_at = time.monotonic()

    def run(self) -> None:
        """Until nobody can print any more."""
        select.select([self._pipe], [], [])
        writer = LogWriter(self._log_file(), self._is_late)
        cutter, began_ms = Cutter(), 0
        while data := os.read(self._pipe.fileno(), _READ_BYTES):
            now_ms, lines = time.time_ns() // 1_000_000, []
            began_ms = began_ms if cutter.is_holding else now_ms
            for raw in cutter.feed(data):
                lines.append(encode(began_ms, raw))
                began_ms = now_ms
            writer.write(lines)
            self._moved_at = time.monotonic()
        writer.write([encode(began_ms, raw) for raw in cutter.end_line()])

    def _log_file(self) -> Path:
        """What a program prints while it waits for its job stays in the pipe until that has a log."""
        log_file = self._launch["log_file"]
        if STANDBY_LABEL in self._launch["labels"]:
            while not self._is_over.wait(_STANDBY_S):
                with contextlib.suppress(OSError, ValueError):
                    log_file = read_launch(self._folder)["log_file"]
                if log_file != self._launch["log_file"]:
                    break
        return Path(log_file)

    def _is_late(self) -> bool:
        return self._is_over.is_set() and time.monotonic() - self._moved_at > _LOG_END_S

    def finish(self) -> None:
        """Wait for the end of the log as long as it grows; what keeps the pipe open without a word is left."""
        self._moved_at = time.monotonic()
        self._is_over.set()
        while self.is_alive() and not self._is_late():
            self.join(_LOG_END_S / 10)
        if self.is_alive():
            said = f"[kennel]: the log ends here: {_LOG_END_S} s after the program had ended, its output was still open"
            with contextlib.suppress(OSError), self._log_file().open("ab", buffering=0) as log:
                log.write(encode(time.time_ns() // 1_000_000, said.encode()))


class Program(Protocol):
    """A program that was started; its standard output and error come together."""

    @property
    def pid(self) -> int:
        """The leader of its process group."""

    @property
    def stdout(self) -> IO[bytes] | None:
        """Both streams."""


def enter(launch: dict[str, Any]) -> None:
    """What a process does before it becomes the program.

    Raises:
        OSError: the machine does not allow it.
    """
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)  # nothing runs on without somebody who notes its end
    namespaces.enter(launch["hosts_file"], isolated=launch["isolated"], read_only=launch["read_only"])


def _begin(launch: dict[str, Any]) -> Program:
    return subprocess.Popen(
        launch["command"],
        cwd=launch["folder"],
        env=launch["environ"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        preexec_fn=lambda: enter(launch),  # noqa: PLW1509 - there is one thread
    )


def _kill_all(program: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program, signal.SIGKILL)
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait(program: int) -> int:
    """Reap until the program and all that it left have ended; the program's status as a shell gives it."""
    code: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, 0 if code is None else os.WNOHANG)
        except ChildProcessError:
            return code or 0
        if pid == program:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended
        elif pid == 0:
            _kill_all(program)  # again and again, because they may start others meanwhile
            time.sleep(0.02)


def supervise(folder: Path, ready: int, begin: Callable[[dict[str, Any]], Program] = _begin) -> None:
    """Run the program to its end. What is written to `ready` is why it could not start, or nothing."""
    launch = read_launch(folder)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    try:
        process = begin(launch)
    except (OSError, subprocess.SubprocessError) as error:
        os.write(ready, str(error).encode())
        return
    program = process.pid
    signal.signal(signal.SIGTERM, lambda *_: _tell(program))
    signal.signal(signal.SIGUSR1, lambda *_: _kill_all(program))
    write_private(folder / PROCESS, {"pid": os.getpid(), "started": start_time(os.getpid()), "program": program})
    os.close(ready)
    assert process.stdout is not None  # noqa: S101 - asked for above
    pump = _Pump(process.stdout, folder, launch)
    pump.start()
    code = _wait(program)
    pump.finish()
    write_private(folder / EXIT, {"code": code, "ended": time.time()})


def _tell(program: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(program, signal.SIGTERM)


def main(folder: Path) -> int:
    """Leave the caller behind; return when the program has started, with 1 and the reason when it has not."""
    reader, ready = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            leave(folder)
            supervise(folder, ready)
        except BaseException as error:  # whatever it is, the caller must not take it for a start
            with contextlib.suppress(OSError):
                os.write(ready, repr(error).encode())
            raise
        finally:
            os._exit(0)
    os.close(ready)
    with os.fdopen(reader, "rb") as pipe:
        problem = pipe.read().decode()
    sys.stderr.write(problem)
    return 1 if problem else 0


def leave(folder: Path) -> None:
    """Leave the caller's session, and let go of its pipes, which it reads to their end."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    descriptor = os.open(folder / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
