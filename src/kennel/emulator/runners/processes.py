"""Facts about the processes of this machine, from /proc or, where there is none, from ps."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from kennel.contract.presence import stat_fields

_PROC = Path("/proc")


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
    found = {pid: stat_fields(pid) for pid in pids}
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
        fields = stat_fields(int(folder.name))
        if fields and fields[0] != "Z":
            yield int(folder.name), int(fields[1])
