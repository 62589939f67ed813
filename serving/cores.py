"""How many cores this process may use: the affinity mask and the cgroup's quota, not the machine's count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Cores:
    """A count and where it comes from."""

    count: int
    reason: str


def granted_cores(system: Path = Path("/")) -> Cores:
    """The cores of the affinity mask, or fewer where a cgroup's CPU quota grants fewer whole ones (at least 1).

    Args:
        system: the root of the file system whose proc and sys are read.
    """
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(system)
    if quota is not None and quota < mask:
        return Cores(max(1, int(quota)), f"the cgroup grants {quota:g} of {mask}")
    return Cores(mask, "the affinity mask" if quota is None else f"the affinity mask; the cgroup grants {quota:g}")


def _quota(system: Path) -> float | None:
    """The smallest quota between this process's cgroup and the root, in cores; None when there is none."""
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None  # not Linux
    quotas = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        cgroup = PurePosixPath(path.lstrip("/"))
        for folder in (cgroup, *cgroup.parents):  # a container may see the host's path, of which only the root exists
            if not controllers:
                quotas.append(_read_v2(system / "sys/fs/cgroup" / folder / "cpu.max"))
            elif "cpu" in controllers.split(","):
                quotas.append(_read_v1(system / "sys/fs/cgroup/cpu" / folder))
    return min((quota for quota in quotas if quota is not None), default=None)


def _read_v2(file: Path) -> float | None:
    try:
        quota, period = file.read_text(encoding="utf-8").split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such file at the root, or the word "max"
        return None


def _read_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None  # -1 means no limit
