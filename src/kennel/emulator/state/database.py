"""The connections to one SQLite file. An error of the machine comes as an OSError with its errno and the file's name.

A connection has three files open, so threads share a few instead of having one each: a thousand jobs would use up what
a process may have. One connection stays open for good: SQLite needs room to begin to read a write-ahead log, but none
to go on with it, so that what is stored can be read on a full disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_BUSY_S = 30
_KEPT = 4  # connections that wait for their next user
_PROBE_BYTES = 1 << 16
_PRIMARY = 0xFF  # the bits of an extended result code that tell the kind
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
}


class Database:
    """One file. Safe for threads."""

    def __init__(self, file: Path) -> None:
        """Nothing is opened yet."""
        self.file = file
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._writing = threading.RLock()  # SQLite's own makes threads poll for it, each with a connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for as long as the block lasts.

        Raises:
            OSError: the machine lacks something.
        """
        with self._explained():
            connection = self._take()
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.rollback()
                self._give_back(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One in a transaction, which is undone when the block or its commit fails.

        Raises:
            OSError: the machine lacks something.
        """
        with self._writing, self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        made = sqlite3.connect(self.file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        # With a write-ahead log, only a power cut can undo the last changes then; a kill cannot. Otherwise each
        # change waits for the disk, 15 times in a training job.
        try:
            made.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            made.close()
            raise
        return made

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            code = self._errno(error)
            if code is None:
                raise
            raise OSError(code, f"{os.strerror(code)} ({error})", str(self.file)) from error

    def _errno(self, error: sqlite3.OperationalError) -> int | None:
        kind = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if kind not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            return _ERRNO.get(kind)
        return _why_not_opened(self.file) or _why_not_written(self.file.parent) or _ERRNO.get(kind)


def _why_not_opened(file: Path) -> int | None:
    """SQLite does not tell it, so it is tried again."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        return error.errno
    return None


def _why_not_written(folder: Path) -> int | None:
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno
    return None
