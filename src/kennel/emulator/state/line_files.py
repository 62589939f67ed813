"""Files of lines to which several processes append: a line is there whole or not at all, whatever ends its write."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType


def write_whole(descriptor: int, data: bytes, end: int) -> None:
    """Append to a file that ends at `end`: all of it, or nothing, though the kernel writes what fits on a full disk.

    Raises:
        OSError: there is no room for all of it.
    """
    rest = memoryview(data)
    try:
        while rest:
            written = os.write(descriptor, rest)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]
    except OSError:
        os.ftruncate(descriptor, end)
        raise


class LineFile:
    """A file that is open for lines. Not safe for threads; other processes may append to the same file."""

    def __init__(self, path: Path, mode: int = 0o666) -> None:
        """Open or make it, with its folders.

        Raises:
            OSError: it cannot be.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
        self._end = -1  # where this one has ended its last line

    @property
    def size(self) -> int:
        """In bytes."""
        return os.fstat(self._descriptor).st_size

    def append(self, lines: bytes) -> None:
        """Add whole lines: all of them, or nothing with an error.

        The half line that a killed process left is ended first, so that nothing is glued to it.

        Raises:
            OSError: there is no room for all of it.
        """
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # whoever takes a half line back takes nobody else's
        try:
            end = os.lseek(self._descriptor, 0, os.SEEK_END)
            if end and end != self._end and os.pread(self._descriptor, 1, end - 1) != b"\n":
                lines = b"\n" + lines
            write_whole(self._descriptor, lines, end)
            self._end = end + len(lines)
        except OSError as error:
            error.filename = str(self._path)
            raise
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Append no more."""
        os.close(self._descriptor)

    def __enter__(self) -> LineFile:
        """It is open."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self.close()


def append(path: Path, lines: bytes, mode: int = 0o666) -> None:
    """Add whole lines to a file that is opened for them alone: all of them, or nothing with an error.

    Raises:
        OSError: there is no room for all of it.
    """
    with LineFile(path, mode) as file:
        file.append(lines)
