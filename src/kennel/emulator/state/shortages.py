"""What this machine can run out of: room on a disk, open files, processes. Such errors pass, and are waited for.

An error is told by its errno, however deep in the chain of its causes it lies (`shortage_of`), said in one sentence
(`str` of a Shortage), and waited for in one place (`Patience`), which everybody uses who must not end of it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
# What others hold now and give back when they end:
_PASSING = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EBUSY}
_NO_THREAD = "can't start new thread"  # CPython's RuntimeError has no errno
_FULL_BYTES = 1 << 20  # a disk with less is one on which something may not have had room
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 2.0
_RESERVE_BYTES = 1 << 20  # for some dozen changes of the state
_RESERVES = 4  # a smaller rest is for others
_RENEW_S = 10.0  # from one try to the next
_MEGABYTE = 1_000_000
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class LeavingError(Exception):
    """The server ends: what was waited for is left to the next one."""


@dataclass(frozen=True)
class Shortage:
    """Something has run out."""

    code: int  # an errno
    place: Path | None = None  # on the disk in question, where that is known

    @property
    def is_of_disk(self) -> bool:
        """Whether somebody has to make room."""
        return self.code in _DISK

    def __str__(self) -> str:
        """What has run out, how much there is, and what to do."""
        return (self._disk() if self.is_of_disk else _others(self.code)) + ", then try again."

    def _disk(self) -> str:
        place = _existing(self.place) if self.place else None
        if self.code == errno.EIO:
            return f"The disk of {place or 'the local SageMaker'} does not work ({os.strerror(self.code)}). Repair it"
        what = "The disk quota is used up" if self.code == errno.EDQUOT else "The disk is full"
        if place is None:
            return f"{what}. Make room"
        usage, files = shutil.disk_usage(place), os.statvfs(place)
        if files.f_files and not files.f_favail:
            return f"{what}: {place} may have {files.f_files} files, and has them. Remove some"
        left, whole = usage.free / _MEGABYTE, usage.total / _MEGABYTE
        return f"{what}: {place} has {left:,.1f} of {whole:,.1f} MB left. Make room there"


def _others(code: int) -> str:
    if code == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"Too many files are open: this process may have {limit}. Start it with a higher `ulimit -n`"
    if code == errno.ENFILE:
        return "Too many files are open on this machine. End other programs, or raise the kernel's limit"
    if code == errno.ENOMEM:
        return "This machine has no memory left. End other programs"
    if code == errno.EBUSY:
        return "The state of the local SageMaker is in use by another program. End that one"
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    said = "the system's" if limit == resource.RLIM_INFINITY else str(limit)
    return f"No further process or thread can be started: the limit is {said}. End some, or raise `ulimit -u`"


def shortage_of(error: BaseException, place: Path | None = None) -> Shortage | None:
    """What has run out, if that is why an error was raised.

    Args:
        error: any error, with its causes.
        place: the disk that is meant where the error names no file, as that of a write does.
    """
    for one in _chain(error):
        if isinstance(one, RuntimeError) and _NO_THREAD in str(one):
            return Shortage(errno.EAGAIN)
        if isinstance(one, OSError) and one.errno in _PASSING:
            return Shortage(one.errno)
        if isinstance(one, OSError) and one.errno in _DISK:
            named = [Path(name) for name in (one.filename, one.filename2) if isinstance(name, str)]
            places = [path for path in (*named, place) if path]
            full = [path for path in places if shutil.disk_usage(_existing(path)).free < _FULL_BYTES]
            return Shortage(one.errno, next(iter(full or places), None))
    return None


def passes(error: BaseException) -> bool:
    """Whether the error is for want of what others will give back, so that nobody has to do anything about it."""
    found = shortage_of(error)
    return found is not None and not found.is_of_disk


def told(reason: str, error: BaseException, place: Path | None = None) -> str:
    """A reason with what has run out, if that was the cause."""
    found = shortage_of(error, place)
    return f"{reason.rstrip('. ')}. {found}" if found else reason


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # an error can be its own cause
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


class Reserve:
    """Room that is given up on a full disk, so that a job that has filled it can end, and free what it has taken."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._is_there = False
        self._next_s = 0.0  # of time.monotonic

    def spend(self) -> bool:
        """Give it up; whether there was any."""
        with self._lock, contextlib.suppress(OSError):
            self._is_there = False
            self._next_s = time.monotonic() + _RENEW_S
            self._file.unlink()
            return True
        return False

    def renew(self) -> None:
        """Take it again, where there is room for it several times over. Cheap, unless it is missing."""
        if self._is_there or time.monotonic() < self._next_s:
            return
        with self._lock, contextlib.suppress(OSError):
            self._next_s = time.monotonic() + _RENEW_S
            if shutil.disk_usage(self._file.parent).free > _RESERVES * _RESERVE_BYTES:
                self._file.write_bytes(bytes(_RESERVE_BYTES))
                self._is_there = True


class Patience:
    """Tries again what failed for want of something, with pauses, until there is enough of it or the server ends."""

    def __init__(self, leaving: threading.Event, place: Path | None = None, reserve: Reserve | None = None) -> None:
        """Make one.

        Args:
            leaving: set when the server ends.
            place: the disk that is meant where an error names none.
            reserve: is given up before anything is waited for.
        """
        self._leaving = leaving
        self._place = place
        self._reserve = reserve

    def until_done(self, action: Callable[[], _T], limit_s: float = float("inf")) -> _T:
        """What the action gives.

        Raises:
            LeavingError: the server ends first.
            Exception: the action's, for another reason or after `limit_s`.
        """
        pause_s, said, deadline = _FIRST_PAUSE_S, None, time.monotonic() + limit_s
        while True:
            try:
                done = action()
                if self._reserve:
                    self._reserve.renew()
                return done
            except Exception as error:
                shortage = shortage_of(error, self._place)
                if shortage is None or time.monotonic() > deadline:
                    raise
                if shortage.is_of_disk and self._reserve and self._reserve.spend():
                    continue
                if shortage.code != said:  # once, and not with each try
                    _LOG.warning("%s waits: %s", threading.current_thread().name, shortage)
                said = shortage.code
            if self._leaving.wait(pause_s):
                raise LeavingError
            pause_s = min(_MAX_PAUSE_S, pause_s * 2)
