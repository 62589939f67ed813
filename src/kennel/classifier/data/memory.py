"""How much memory there is to use."""

from __future__ import annotations

import os
import re
from pathlib import Path

_CGROUPS = (  # a container's limit, its use, and how much of that is files that the kernel drops first: version 2, 1
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def available_bytes(system: Path = Path("/")) -> int:
    """Memory that can be taken without swapping: what the machine has left, or the container where that is less.

    Args:
        system: the root of the file system whose proc and sys are read.
    """
    left = [_machine_bytes(system)]
    for limit, used, parts, cached in _CGROUPS:
        folder = system / "sys/fs/cgroup"
        try:
            free = int((folder / limit).read_text()) - int((folder / used).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        left.append(free + _cached_bytes(folder / parts, cached))
    return max(0, min(left))


def _cached_bytes(file: Path, name: str) -> int:
    """Files that were read count as used until someone else needs the room."""
    try:
        found = re.search(rf"^{name} (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _machine_bytes(system: Path) -> int:
    try:
        lines = (system / "proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
