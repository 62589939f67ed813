"""A process that has imported what a program needs, and becomes the program as often as it is asked to.

`python -m kennel.emulator.runners.fork_server PROGRAM PRELOAD` imports the module PRELOAD, calls its `preload()`, and
writes an empty line. For each line of its input, the folder of a run with its launch.json, it starts the module PROGRAM
as child.py would start a command: a parent that outlives the emulator, and below it the program, forked from here
instead of begun anew. It answers with an empty line, or with why that could not be done. It ends with its input, and
when nobody has asked for a minute. What the programs share is what has been imported; a program never runs in this
process, so nothing of one is there for the next. Its variables are those with which this process was started, since
some are read at import.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import runpy
import select
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kennel.emulator.runners import child

IDLE_S = 60.0


class _Become(BaseException):
    """Raised in a process that was just forked, to leave the server's frames: it is the program now."""

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(arguments)
        self.arguments = arguments


@dataclass(frozen=True)
class _Forked:
    pid: int
    stdout: IO[bytes]


def serve(program: str) -> list[str] | None:
    """Answer until nobody asks any more.

    Returns:
        None in the server; in each program that it has forked, the program's arguments.
    """
    gc.freeze()  # what is imported is garbage in no program, and pages that nobody writes stay shared
    kept = _open_files()
    os.write(1, b"\n")
    requests = os.fdopen(0, "rb", buffering=0, closefd=False)
    while select.select([requests], [], [], IDLE_S)[0]:
        line = requests.readline()
        if not line:
            return None
        try:
            problem = _fork_parent(Path(os.fsdecode(line.rstrip(b"\n"))), program, kept)
        except _Become as become:
            return become.arguments
        except OSError as error:
            problem = child.problem_of(error)
        os.write(1, problem.encode() + b"\n")
    return None


def _fork_parent(folder: Path, program: str, kept: set[int]) -> str:
    """Start the parent of one program; why the program could not be started, or nothing."""
    reader, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            child.leave(folder)
            child.supervise(folder, ready, lambda launch: _fork_program(launch, program, kept))
        except Exception as error:
            os.write(ready, child.problem_of(error).encode())
        os._exit(0)  # `_Become` passes: the program ends in `main`
    os.close(ready)
    with os.fdopen(reader, "rb") as pipe:
        problem = pipe.read().decode()
    if problem:
        os.waitpid(pid, 0)
    _reap()
    return problem


def _open_files() -> set[int]:
    with os.scandir("/proc/self/fd") as found:
        names = {int(entry.name) for entry in found}
    return {number for number in names if _is_open(number)}  # without that of the listing itself


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _reap() -> None:
    """Forget the parents that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _fork_program(launch: dict[str, Any], program: str, kept: set[int]) -> _Forked:
    """What subprocess does for a command, for a module that is here already."""
    output, written = os.pipe()
    problem, failed = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _enter(launch, written)
        except Exception as error:
            os.write(failed, child.problem_of(error).encode())
            os._exit(1)
        for descriptor in _open_files() - kept:  # among them those whose end the processes above wait for
            os.close(descriptor)
        words: list[str] = launch["command"]
        raise _Become(words[words.index(program) + 1 :])
    os.close(written)
    os.close(failed)
    with os.fdopen(problem, "rb") as pipe:
        said = pipe.read().decode()
    if said:
        os.waitpid(pid, 0)
        code, _, text = said.partition(" ")
        raise OSError(int(code), text)
    return _Forked(pid, os.fdopen(output, "rb"))


def _enter(launch: dict[str, Any], written: int) -> None:
    os.setpgid(0, 0)
    child.enter(launch)
    os.chdir(launch["folder"])
    os.environ.clear()
    os.environ.update(launch["environ"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, stream in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(descriptor, stream)


def main(program: str, preload: str) -> None:
    """Be the server; in what it forks, be the program."""
    importlib.import_module(preload).preload()
    arguments = serve(program)
    if arguments is not None:
        os._exit(_run(program, arguments))


def _run(program: str, arguments: list[str]) -> int:
    """Run the module to the exit status that an interpreter would end with.

    What it registered for its end is done; what was imported is left to the system, which is faster by up to a second
    than to take it apart, page by shared page.
    """
    sys.argv = [program, *arguments]
    code: object = 0
    try:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads, as multiprocessing does it in what it forks
    atexit._run_exitfuncs()
    if not isinstance(code, int | None):
        sys.stderr.write(f"{code}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


if __name__ == "__main__":
    main(*sys.argv[1:])
