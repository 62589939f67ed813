"""Who serves a home, by what cannot be true by luck: the lock that a process holds, and a proof that it has the key.

The server of a home holds a lock on a file in it for as long as it lives, and writes into that file which process it
is. The kernel gives the lock back however the process ends. So a file that nobody holds says nothing, whatever it
contains, and what a held one contains was written by its holder. The lock goes with the file, not with its path: links
and relative paths lead to the same one. Both the driver and the local SageMaker read this; it needs the standard
library alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

CHALLENGE_HEADER = "X-Kennel-Challenge"  # of GET /: 32 hexadecimal digits that nobody has used before
_CHALLENGE = re.compile(r"[0-9a-f]{32}")
_PROC = Path("/proc")
_PATIENCE_S = 2.0  # somebody who only looks holds the lock for an instant
_PAUSE_S = 0.02
_READ_BYTES = 4096


class HeldError(Exception):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Process:
    """A process that is never taken for another one of its number."""

    pid: int
    started: str  # by `start_time`

    @classmethod
    def own(cls) -> Process:
        """This one."""
        return cls(os.getpid(), start_time(os.getpid()) or "")

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        now = start_time(self.pid)
        return now is not None and self.started in (now, now.rpartition(" ")[2])  # the latter without its boot, as once


@dataclass(frozen=True)
class Holder:
    """Somebody holds the lock."""

    process: Process | None  # None: a process that has not said which one it is, or that cannot be seen from here


def start_time(pid: int) -> str | None:
    """When a process started, as a text to compare: with it a process id is never taken for an older one's.

    None when there is no such process, or it has ended and only waits to be reaped.
    """
    if not (_PROC / "self").exists():
        environ = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}  # the same text for everybody who asks
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ).stdout.strip() or None
    fields = stat_fields(pid)
    if not fields or fields[0] in ("Z", "X"):
        return None
    return f"{_boot()} {fields[19]}"


def _boot() -> str:
    """Names this start of the machine, since when the start time counts; after the next one, numbers come again."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, PermissionError):
        return "-"


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before it may hold spaces and brackets.

    Raises:
        OSError: it cannot be read now, as with too many open files; that does not mean that the process is gone.
    """
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


# ---- the lock -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def hold(lock_file: Path) -> Iterator[None]:
    """Hold a home's lock, and say so in it.

    Raises:
        HeldError: another process holds it.
        OSError: the file cannot be written.
    """
    with lock_file.open("a+", encoding="ascii") as file:
        _take(file)
        file.truncate(0)
        file.write(json.dumps(asdict(Process.own())))
        file.flush()
        yield


def _take(file: IO[str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise HeldError from None
            time.sleep(_PAUSE_S)
        else:
            return


def holder(lock_file: Path) -> Holder | None:
    """Who holds a home's lock; None: nobody.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        file = lock_file.open("rb")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            process = _read(file.read(_READ_BYTES))
            return Holder(process if process and process.is_alive else None)
    return None


def _read(text: bytes) -> Process | None:
    """What a holder has written; one that is still to write finds what an earlier one, which has ended, left."""
    try:
        value = json.loads(text)
        return Process(int(value["pid"]), str(value["started"]))
    except (ValueError, KeyError, TypeError):
        return None


# ---- the proof ------------------------------------------------------------------------------------------------------


def introduction(challenge: str, secret: str, home: Path, port: int) -> dict[str, Any]:
    """What a server answers to a challenge: its home, its process, and the proof that it has the home's key.

    Nothing for a challenge that is none, so that a stranger's text is never signed.
    """
    if not _CHALLENGE.fullmatch(challenge):
        return {}
    said = {"home": os.fsencode(home).decode("utf-8", "replace"), "pid": os.getpid()}
    return {**said, "proof": _proof(challenge, secret, said, port)}


def is_proven(answer: Mapping[str, Any], challenge: str, secret: str, process: Process, port: int) -> bool:
    """Whether an answer comes from this process, which has the key and listens on this port."""
    if answer.get("pid") != process.pid or not isinstance(answer.get("proof"), str):
        return False
    return hmac.compare_digest(answer["proof"].encode(), _proof(challenge, secret, answer, port).encode())


def _proof(challenge: str, secret: str, said: Mapping[str, Any], port: int) -> str:
    """The port is part of it, so that nobody hands on what another server has answered."""
    text = "\n".join(("kennel presence", challenge, str(said.get("home")), str(said["pid"]), str(port)))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
