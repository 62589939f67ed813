"""What Linux lets a plain process have of a container: names of its own for hosts, no network, folders it cannot write.

All need namespaces, which root may make, and others where the machine allows user namespaces (Debian does; Ubuntu
24.04 asks for a setting). `possible` tries it once. They keep mistakes in, not malice: whoever is root in a namespace
can mount anew.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_NEW_MOUNTS, _NEW_USER, _NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000  # of unshare(2)
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18  # of mount(2)
_KEPT = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME  # which only the machine's root may take off
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # of netdevice(7)
_HOSTS = "/etc/hosts"


def enter(hosts_file: str | None, *, isolated: bool, read_only: Sequence[Sequence[str]] = ()) -> None:
    """Give this process, which has one thread, its own /etc/hosts and a network with nothing but itself.

    Args:
        hosts_file: stands for /etc/hosts; None leaves the machine's.
        isolated: whether the network goes.
        read_only: pairs of a file or folder, and the place where it appears and cannot be written.

    Raises:
        OSError: the machine does not allow it.
    """
    if not hosts_file and not isolated and not read_only:
        return
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_MOUNTS | (_NEW_NETWORK if isolated else 0) | (_NEW_USER if user else 0))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    if isolated:
        _raise_loopback()
    _call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)  # what follows is seen by nobody else
    if hosts_file:
        _call("mount", hosts_file.encode(), _HOSTS.encode(), None, _BIND, None)
    for source, place in read_only:
        _bind_read_only(os.fsencode(source), os.fsencode(place))


def _bind_read_only(source: bytes, place: bytes) -> None:
    """Linux takes the flag only when it mounts a second time."""
    _call("mount", source, place, None, _BIND | _RECURSIVE, None)
    kept = os.statvfs(place).f_flag & _KEPT
    _call("mount", None, place, None, _REMOUNT | _BIND | _READ_ONLY | kept, None)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))


@functools.cache
def possible() -> bool:
    """Whether this machine allows it, tried in a process of its own."""
    if sys.platform != "linux":
        return False
    attempt = f"from {__name__} import enter; enter({_HOSTS!r}, isolated=True, read_only=[({_HOSTS!r},) * 2])"
    return subprocess.run([sys.executable, "-c", attempt], capture_output=True, check=False).returncode == 0
