"""The local SageMaker as a process: found, started on first use, ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kennel.contract.presence import Process, holder
from kennel.contract.programs import EMULATOR
from kennel.driver.errors import DriverError
from kennel.driver.session.home import Home
from kennel.driver.session.whereabouts import Emulator, look

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
_STOP_LOOK_S = 0.5  # who is to end need not answer
_NAMELESS_S = 2.0  # a server that begins names itself at once
_POLL_S = 0.05
_LOG_LINES = 8
_SERVE = (sys.executable, "-m", EMULATOR, "serve")
_children: list[subprocess.Popen[bytes]] = []  # kept, so that Python does not complain of a child that still runs


def find(home: Home) -> Emulator | None:
    """The local SageMaker of this home, if one answers.

    Raises:
        DriverError: the home cannot be read.
    """
    return look(home).emulator


def start(
    home: Home,
    say: Callable[[str], None],
    *,
    runner: str = "auto",
    port: int = 0,
    timeout_s: float = START_TIMEOUT_S,
) -> Emulator:
    """Find the local SageMaker, or start it as a process of its own that outlives this one.

    Args:
        home: its folder.
        say: where to tell that it is started.
        runner: what it starts images with, `docker`, `process` or `auto`; one that runs already keeps its own.
        port: where it listens; 0: any free one.
        timeout_s: how long it may take to answer.

    Raises:
        DriverError: it ended, or did not answer in time.
    """
    running = find(home)
    if running:
        return running
    deadline = time.monotonic() + timeout_s
    with _lock(home):
        running = _running(home, say, deadline)  # another client may have been first
        if running:
            return running
        say(f"Starting the local SageMaker in {home.path}")
        with home.server_log.open("ab") as log:
            child = subprocess.Popen(
                [*_SERVE, "--home", str(home.path), "--port", str(port), "--runner", runner],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in this terminal is not for it
            )
        _children.append(child)
        return _wait_until_it_answers(home, child, timeout_s)


def _running(home: Home, say: Callable[[str], None], deadline: float) -> Emulator | None:
    """The local SageMaker that serves the home, as soon as it answers; None when none serves it.

    Raises:
        DriverError: one serves it and cannot be used.
    """
    told = False
    while (seen := look(home)).is_held and not seen.emulator:
        if not seen.may_change or time.monotonic() > deadline:
            raise seen.refusal()
        if not told:
            say(f"{seen.problem} Waiting for it")
            told = True
        time.sleep(_POLL_S)
    return seen.emulator


def stop(home: Home, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """End the local SageMaker; False when none runs. Jobs are found again by the next one.

    Nothing is sent but to the process that holds the home's lock; whether it answers does not matter.

    Raises:
        DriverError: it does not end, or does not say which process it is.
    """
    begun = time.monotonic()
    deadline = begun + timeout_s
    while (seen := look(home, _STOP_LOOK_S)).is_held and not seen.process:
        if not seen.may_change or time.monotonic() > min(deadline, begun + _NAMELESS_S):
            raise seen.refusal()
        time.sleep(_POLL_S)
    if not seen.process:
        return False
    if not _signal(home, seen.process):
        return True  # it has ended meanwhile
    while seen.process.is_alive:
        if time.monotonic() > deadline:
            raise DriverError(
                f"The local SageMaker (process {seen.process.pid}) did not end in {timeout_s:g} s.",
                f"See {home.server_log}; kill -9 {seen.process.pid} is safe, the next one finds its state.",
            )
        time.sleep(_POLL_S)
    for child in _children:
        child.poll()  # nobody else reaps it
    return True


def _signal(home: Home, process: Process) -> bool:
    """SIGTERM to the process that holds the home's lock; False when it does so no more.

    A handle is opened before the last look, so that what gets the signal is what was looked at, even where its number
    is given to another program in between.
    """
    if not hasattr(os, "pidfd_open"):  # macOS
        if _holds(home, process):
            os.kill(process.pid, signal.SIGTERM)
            return True
        return False
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not _holds(home, process):
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _holds(home: Home, process: Process) -> bool:
    found = holder(home.emulator_lock)
    return found is not None and found.process == process


def _wait_until_it_answers(home: Home, child: subprocess.Popen[bytes], timeout_s: float) -> Emulator:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        running = find(home)
        if running:
            return running
        if child.poll() is not None:
            raise DriverError(
                f"The local SageMaker ended with status {child.returncode}: {_tail(home.server_log)}",
                f"Its log is {home.server_log}; kennel doctor looks for causes.",
            )
        time.sleep(_POLL_S)
    child.terminate()
    raise DriverError(
        f"The local SageMaker did not answer in {timeout_s:g} s: {_tail(home.server_log)}",
        f"Its log is {home.server_log}.",
    )


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(line for line in lines[-_LOG_LINES:] if line.strip())
    return "no log"


@contextlib.contextmanager
def _lock(home: Home) -> Iterator[None]:
    home.make()
    with home.start_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
