"""A file system of a few megabytes that a test fills, and a process with few open files: neither harms the machine."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_LIMIT_BYTES = 64 << 20  # a test cannot make a larger one, so that none can use up the machine's memory


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def free_bytes(self) -> int:
        facts = os.statvfs(self.path)
        return facts.f_bavail * facts.f_frsize

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Take all the room that there is, until `make_room`."""
        assert os.path.ismount(self.path), "nothing but the small disk may be filled"
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while self.free_bytes > leave_bytes:
                file.write(bytes(min(1 << 16, self.free_bytes - leave_bytes)))

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def is_full(self) -> bool:
        try:
            with (self.path / "probe").open("wb", buffering=0) as file:
                file.write(bytes(4096))
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            (self.path / "probe").unlink(missing_ok=True)
        return False


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int, *, files: int = 10_000) -> Iterator[SmallDisk]:
    """Mount one over a new folder, for as long as the block lasts; skips where that is not allowed."""
    assert size_bytes <= _LIMIT_BYTES
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},nr_inodes={files}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here, which takes root: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
