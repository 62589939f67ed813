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
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

from kennel.contract.files import write_private
from kennel.contract.presence import start_time
from kennel.emulator.runners import namespaces
from kennel.emulator.runners.base import STANDBY_LABEL, RunnerError
from kennel.emulator.runners.processes import descendants
from kennel.emulator.runners.pump import Pump

LAUNCH, PROCESS, EXIT = "launch.json", "process.json", "exit.json"
_RESERVE, _RESERVE_BYTES = "reserve", 1 << 16
_EXIT_BYTES = 100  # are kept free for how it ended, so that a program that fills the disk can end
_AGAIN_S = 0.5
_STANDBY_S = 0.01  # between two looks for the job of a program that waits, and has printed something
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)


def read_launch(folder: Path) -> dict[str, Any]:
    """What is run."""
    launch: dict[str, Any] = json.loads((folder / LAUNCH).read_text(encoding="utf-8"))
    return launch


def choose_log(folder: Path, launch: dict[str, Any], is_over: threading.Event) -> Path:
    """Where it is logged. What a program prints while it waits for its job is kept until that has a log."""
    log_file = launch["log_file"]
    if STANDBY_LABEL in launch["labels"]:
        is_last = False  # a program may have ended before the first look
        while log_file == launch["log_file"] and not is_last:
            is_last = is_over.wait(_STANDBY_S)
            with contextlib.suppress(OSError, ValueError):
                log_file = read_launch(folder)["log_file"]
    return Path(log_file)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":  # elsewhere what the program leaves behind is only found by its process group
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


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
    if "open_files" in launch:  # the emulator has raised its own
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft = launch["open_files"] if hard == resource.RLIM_INFINITY else min(launch["open_files"], hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
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
        note_end = _reserve(folder / EXIT)
        (folder / _RESERVE).write_bytes(bytes(_RESERVE_BYTES))
        process = begin(launch)
    except (OSError, subprocess.SubprocessError) as error:
        os.write(ready, problem_of(error).encode())
        return
    program = process.pid
    signal.signal(signal.SIGTERM, lambda *_: _tell(program))
    signal.signal(signal.SIGUSR1, lambda *_: _kill_all(program))
    write_private(folder / PROCESS, {"pid": os.getpid(), "started": start_time(os.getpid()), "program": program})
    os.close(ready)
    assert process.stdout is not None  # noqa: S101 - asked for above
    pump = Pump(process.stdout, lambda is_over: choose_log(folder, launch, is_over), folder / _RESERVE)
    code = _wait(program)
    pump.finish()
    note_end({"code": code, "ended": time.time()})


def _reserve(file: Path) -> Callable[[dict[str, Any]], None]:
    """What writes the end of a run into a file that has its room already; nobody takes it for an end before."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(descriptor, b" " * _EXIT_BYTES)

    def note_end(end: dict[str, Any]) -> None:
        while True:
            try:
                os.pwrite(descriptor, json.dumps(end).encode().ljust(_EXIT_BYTES), 0)
                return
            except OSError:  # a file system that writes nothing in its place: until there is room
                time.sleep(_AGAIN_S)

    return note_end


def problem_of(error: BaseException) -> str:
    """Why a program could not be started, for `raise_problem`: an errno, or 0, and a text."""
    return f"{getattr(error, 'errno', None) or 0} {' '.join(str(error).split()) or repr(error)}"


def raise_problem(text: str, prefix: str = "") -> NoReturn:
    """Raise what `problem_of` said in another process.

    Raises:
        RunnerError: always; its cause is an OSError with the errno, if there was one.
    """
    code, _, said = text.partition(" ")
    cause = OSError(int(code), said) if code.isdecimal() and int(code) else None
    raise RunnerError(f"{prefix}{said if code.isdecimal() else text}") from cause


def _tell(program: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(program, signal.SIGTERM)


def main(folder: Path) -> int:
    """Leave the caller behind; return when the program has started, with 1 and the reason when it has not."""
    reader, ready = os.pipe()
    try:
        is_parent = os.fork() == 0
    except OSError as error:
        sys.stderr.write(problem_of(error))
        return 1
    if is_parent:
        os.close(reader)
        try:
            leave(folder)
            supervise(folder, ready)
        except BaseException as error:  # whatever it is, the caller must not take it for a start
            with contextlib.suppress(OSError):
                os.write(ready, problem_of(error).encode())
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
