"""The parent of a program that is run without a container: it outlives the emulator.

`python -m kennel.emulator.runners.child FOLDER` reads FOLDER/launch.json, leaves its session, starts the program,
appends its lines to the log (that which the file names when the first line comes: a program that waited for its job has
another one by then), and at the end writes FOLDER/exit.json. SIGTERM is handed to the program alone; SIGUSR1
kills everything that descends from it. When the program ends, so does all that it left running, as in a container.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

from kennel.classifier.contract import write_private
from kennel.emulator.runners import namespaces
from kennel.emulator.runners.processes import descendants
from kennel.presence import start_time

LAUNCH, PROCESS, EXIT = "launch.json", "process.json", "exit.json"
_LINE_BYTES = 256 * 1024  # CloudWatch's largest event
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_LOG_END_S = 5  # for what a descendant that got away keeps open


def read_launch(folder: Path) -> dict[str, Any]:
    """What is run."""
    launch: dict[str, Any] = json.loads((folder / LAUNCH).read_text(encoding="utf-8"))
    return launch


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":  # elsewhere what the program leaves behind is only found by its process group
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _pump(pipe: IO[bytes], folder: Path) -> None:
    """Append every line with the time at which it came; a line that a kill cut short counts as one."""
    line = pipe.readline(_LINE_BYTES)
    log_file = Path(read_launch(folder)["log_file"])
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab", buffering=0) as log:
        while line:
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            event = {"timestamp": time.time_ns() // 1_000_000, "message": text}
            with contextlib.suppress(OSError):  # a full disk must not end the program; the next line may fit
                log.write((json.dumps(event) + "\n").encode())
            line = pipe.readline(_LINE_BYTES)


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
    pump = threading.Thread(target=_pump, args=(process.stdout, folder), daemon=True)
    pump.start()
    code = _wait(program)
    pump.join(_LOG_END_S)
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
