"""Unpacking archives that somebody else has packed. Standard library only."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path


class UnsafeMemberError(tarfile.TarError):
    """A member would leave the folder, or is no file, folder or link."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive, compressed or not; sizes, times and permissions are kept.

    No member leaves the folder, by its name or by a link, and none is a device: tarfile's filter "data", which Python
    has since 3.11.4. Debian 12 has 3.11.2; the same is asked of the members one by one there.

    Raises:
        UnsafeMemberError: one does.
        tarfile.TarError, EOFError, OSError, ValueError: it is no such archive, or damaged.
    """
    with tarfile.open(archive) as tar:
        if not hasattr(tarfile, "data_filter"):
            unpack_by_hand(tar, folder)
            return
        try:
            tar.extractall(folder, filter="data")
        except tarfile.FilterError as error:
            raise UnsafeMemberError(str(error)) from error


def unpack_by_hand(tar: tarfile.TarFile, folder: Path) -> None:
    """What the filter does where there is none. Raises UnsafeMemberError."""
    for member in tar:
        member.name = member.name.lstrip("/")
        target = folder / member.name
        _require_inside(folder, target, f"'{member.name}' would be extracted outside the folder")
        if member.issym() or member.islnk():
            base = folder if member.islnk() else target.parent
            outside = f"'{member.name}' would link to '{member.linkname}', outside the folder"
            if Path(member.linkname).is_absolute():
                raise UnsafeMemberError(outside)
            _require_inside(folder, base / member.linkname, outside)
        elif not member.isfile() and not member.isdir():
            raise UnsafeMemberError(f"'{member.name}' is a special file")
        member.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o600)
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        tar.extract(member, folder)


def _require_inside(folder: Path, target: Path, problem: str) -> None:
    if not target.resolve().is_relative_to(folder.resolve()):  # by way of the links that are there already
        raise UnsafeMemberError(problem)
