"""Facts about the processes of this machine, from /proc or, where there is none, from ps."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROC = Path("/proc")


def start_time(pid: int) -> str | None:
    """When a process started, as a text to compare: with it a process id is never taken for an older one's.

    None when there is no such process, or it has ended and only waits to be reaped.
    """
    if not (_PROC / "self").exists():
        done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return done.stdout.strip() or None
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in ("Z", "X") else None


def descendants(pid: int) -> list[int]:
    """The living processes below one, the nearest first."""
    found: list[int] = []
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found.extend(level)
    return found


def processor_s(pids: Iterable[int]) -> dict[int, float]:
    """The seconds of processor time that each has used, where /proc tells it."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {pid: _stat(pid) for pid in pids}
    return {pid: (int(fields[11]) + int(fields[12])) / ticks for pid, fields in found.items() if fields}


def memory_percent(pids: Iterable[int]) -> float:
    """What they use together of this machine's memory; a page that several share counts once."""
    used = sum(_proportional_bytes(pid) for pid in pids)
    return 100 * used / (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _proportional_bytes(pid: int) -> int:
    """A process's pages, each divided by the number of those that share it."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _parents() -> Iterator[tuple[int, int]]:
    """Every process with its parent."""
    if not (_PROC / "self").exists():
        listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        yield from (tuple(map(int, line.split())) for line in listing.splitlines())  # type: ignore[misc]
        return
    for folder in _PROC.glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields and fields[0] != "Z":
            yield int(folder.name), int(fields[1])


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before it may hold spaces and brackets.

    Raises:
        OSError: it cannot be read now, as with too many open files; that does not mean that the process is gone.
    """
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
