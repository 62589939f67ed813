"""What a machine does, and what one job on it does, from Linux's own counters; the standard library only.

Sources: Linux, Documentation/filesystems/proc.rst (/proc/stat, /proc/meminfo, /proc/PID/stat, /proc/PID/statm),
Documentation/admin-guide/iostats.rst (/proc/diskstats), admin-guide/cgroup-v2.rst, admin-guide/cgroup-v1/{memory,
cpuacct}.rst and scheduler/sched-bwc.rst.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SECTOR_BYTES = 512  # of /proc/diskstats, whatever the disk's own
_NO_DISK = re.compile(r"(loop|ram|zram|dm-|md|sr|fd)\d")  # not there, or counted a second time
_DISK = ("IOPS", "ReadThroughputInBytesPerSecond", "WriteThroughputInBytesPerSecond")
_NETWORK = ("ReceiveBytesPerSecond", "TransmitBytesPerSecond")
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # Linux, include/linux/proc_ns.h: PROC_PID_INIT_INO


class Account(Protocol):
    """Who keeps the books of a job."""

    def cpu_s(self) -> float:
        """Processor seconds so far."""

    def memory_bytes(self) -> int:
        """What it holds now."""


@dataclass(frozen=True)
class Tree:
    """A process and all below it."""

    pid: int
    system: Path = Path("/")

    def cpu_s(self) -> float:
        """Of those that live, and of the children that they waited for."""
        return sum(sum(map(int, fields[11:15])) for fields in self._stats()) * _TICK_S

    def memory_bytes(self) -> int:
        """Resident pages of their own; what is shared, as libraries are, is not counted."""
        total = 0
        for pid in self._pids():
            numbers = read(self.system / f"proc/{pid}/statm").split()
            total += (int(numbers[1]) - int(numbers[2])) * _PAGE_BYTES if numbers else 0
        return total

    def _stats(self) -> Iterator[list[str]]:
        for pid in self._pids():
            fields = stat_fields(pid, self.system)
            if fields:
                yield fields

    def _pids(self) -> Iterator[int]:
        """The nearest first, from the lists that the kernel keeps of each thread's children."""
        level = [self.pid]
        while level:
            yield from level
            lists = (self.system.glob(f"proc/{pid}/task/*/children") for pid in level)
            level = [int(word) for files in lists for file in files for word in read(file).split()]


@dataclass(frozen=True)
class Cgroup:
    """The control group of a process, of version 1 or 2; which is what a container is to the kernel."""

    pid: int
    system: Path = Path("/")

    def cpu_s(self) -> float:
        """Of all that has ever run in it."""
        found = re.search(r"^usage_usec (\d+)$", self._read("cpu", "cpu.stat"), re.MULTILINE)
        if found:
            return int(found[1]) / 1e6
        return _number(self._read("cpuacct", "cpuacct.usage")) / 1e9

    def memory_bytes(self) -> int:
        """Without the files that the kernel would drop first."""
        used = self._read("memory", "memory.current") or self._read("memory", "memory.usage_in_bytes")
        parts = self._read("memory", "memory.stat")
        idle = re.search(r"^total_inactive_file (\d+)$", parts, re.MULTILINE) or re.search(
            r"^inactive_file (\d+)$", parts, re.MULTILINE
        )
        return max(0, int(_number(used)) - (int(idle[1]) if idle else 0))

    def cpu_limit(self) -> float | None:
        """Cores by its quota; None where it has none."""
        quota, _, period = self._read("cpu", "cpu.max").partition(" ")
        if not quota:
            quota, period = self._read("cpu", "cpu.cfs_quota_us"), self._read("cpu", "cpu.cfs_period_us")
        allowed, of = _number(quota), _number(period)
        return allowed / of if allowed > 0 and of > 0 else None

    def memory_limit_bytes(self) -> int | None:
        """None where it has none: version 1 writes a number that no machine has."""
        text = self._read("memory", "memory.max") or self._read("memory", "memory.limit_in_bytes")
        limit = int(_number(text))
        return limit if 0 < limit < 1 << 60 else None

    def _read(self, controller: str, name: str) -> str:
        """A file of it; empty where there is none. From inside a container its folder is the root of what is seen."""
        root = self.system / "sys/fs/cgroup"
        for path in self._paths(controller):
            for folder in (root / path, root / controller / path, root / "cpu,cpuacct" / path):
                text = read(folder / name)
                if text:
                    return text.strip()
        return ""

    def _paths(self, controller: str) -> Iterator[str]:
        for line in read(self.system / f"proc/{self.pid}/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or controller in controllers.split(","):
                yield path.strip("/")
        yield ""


def in_container(pid: int, system: Path = Path("/")) -> bool:
    """Whether a process sees other process ids than the machine's, as every container's do."""
    try:
        return str((system / f"proc/{pid}/ns/pid").readlink()) != _FIRST_PID_NAMESPACE
    except OSError:
        return False


@dataclass(frozen=True)
class Counters:
    """Everything that only grows, at one moment."""

    cores: dict[str, tuple[int, int, int]]  # by name: ticks busy, waiting for disks, in all
    cpu_s: float  # of the job
    disk: tuple[int, int, int]  # transfers, bytes read, bytes written
    network: tuple[int, int] | None  # bytes received, sent; None where nobody may look


@dataclass(frozen=True)
class Value:
    """One line of a file of system metrics, without its node and time."""

    type: str
    name: str
    dimension: str
    value: float


class Machine:
    """The machine as one job on it sees it.

    Args:
        pid: the job's first process.
        container: whether the job is all of its control group; otherwise it is that process and those below it.
        system: the root of the file system whose proc and sys are read.
    """

    def __init__(self, pid: int, *, container: bool, system: Path = Path("/")) -> None:
        self._pid, self._system = pid, system
        self._group = Cgroup(pid, system)
        self._job: Account = self._group if container else Tree(pid, system)
        self._cores = _allowed_cores(pid)

    @property
    def cores(self) -> int:
        """That the job may run on, whatever its quota."""
        return len(self._counted())

    @property
    def cpu_limit(self) -> float:
        """Cores that the job may use."""
        return min(float(self.cores), self._group.cpu_limit() or math.inf)

    @property
    def memory_limit_bytes(self) -> int:
        """What the job may hold: its limit, or all that the machine has."""
        total = self._meminfo("MemTotal")
        return min(total, self._group.memory_limit_bytes() or total)

    def counters(self) -> Counters:
        """Read them."""
        return Counters(self._counted(), self._job.cpu_s(), self._disk(), self._network())

    def values(self, before: Counters, after: Counters, seconds: float) -> Iterator[Value]:
        """What happened between two readings, and what the job holds now."""
        for core, (busy, waiting, total) in after.cores.items():
            was = before.cores.get(core, (0, 0, 0))
            passed = max(1, total - was[2])
            yield Value("cpu", core, "CPUUtilization", 100 * (busy - was[0]) / passed)
            yield Value("cpu", core, "I/OWaitPercentage", 100 * (waiting - was[1]) / passed)
        used = max(0.0, after.cpu_s - before.cpu_s)  # a tree forgets what a child had that nobody waited for
        yield Value("cpu", "container", "ContainerCPUUtilization", 100 * used / (seconds * self.cpu_limit))
        yield Value("memory", "MemoryUsedPercent", "", self._memory_percent())
        yield Value("memory", "MemoryUsedBytes", "", self._job.memory_bytes())
        for name, now, then in zip(_DISK, after.disk, before.disk, strict=True):
            yield Value("i/o", name, "", max(0, now - then) / seconds)
        if before.network and after.network:
            for name, now, then in zip(_NETWORK, after.network, before.network, strict=True):
                yield Value("network", name, "Algorithm", max(0, now - then) / seconds)

    def _memory_percent(self) -> float:
        """Of the job's limit where it has one; otherwise of the machine, whoever uses it."""
        limit, total = self._group.memory_limit_bytes(), self._meminfo("MemTotal")
        if limit is not None and limit < total:
            return 100 * self._group.memory_bytes() / limit
        return 100 * (1 - self._meminfo("MemAvailable") / max(1, total))

    def _meminfo(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB$", read(self._system / "proc/meminfo"), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def _counted(self) -> dict[str, tuple[int, int, int]]:
        """user, nice, system, idle, iowait, irq, softirq, steal; a guest's time is part of user."""
        cores = {}
        for line in read(self._system / "proc/stat").splitlines():
            name, *words = line.split()
            if not name.startswith("cpu") or name == "cpu":
                continue
            if self._cores is None or int(name[3:]) in self._cores:
                ticks = list(map(int, words[:8]))
                cores[name] = (sum(ticks) - ticks[3] - ticks[4], ticks[4], sum(ticks))
        return cores

    def _disk(self) -> tuple[int, int, int]:
        transfers = received = sent = 0
        for line in read(self._system / "proc/diskstats").splitlines():
            fields = line.split()
            if _NO_DISK.match(fields[2]) or not (self._system / "sys/block" / fields[2]).exists():
                continue  # a partition, whose disk is in the list, too
            transfers += int(fields[3]) + int(fields[7])
            received += int(fields[5]) * _SECTOR_BYTES
            sent += int(fields[9]) * _SECTOR_BYTES
        return transfers, received, sent

    def _network(self) -> tuple[int, int] | None:
        text = read(self._system / f"proc/{self._pid}/net/dev")
        if not text:
            return None
        received = sent = 0
        for line in text.splitlines()[2:]:
            name, _, numbers = line.partition(":")
            if name.strip() != "lo":
                words = numbers.split()
                received, sent = received + int(words[0]), sent + int(words[8])
        return received, sent


def read(path: Path) -> str:
    """A file's text; empty where it is not there, or not for us."""
    try:
        return path.read_text()
    except OSError:
        return ""


def stat_fields(pid: int, system: Path = Path("/")) -> list[str]:
    """The fields of /proc/PID/stat from the state on (the name before it may hold spaces); empty for no process."""
    return read(system / f"proc/{pid}/stat").rpartition(")")[2].split()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "max", or no such file
        return 0.0


def _allowed_cores(pid: int) -> set[int] | None:
    try:
        return os.sched_getaffinity(pid)
    except (OSError, AttributeError):  # another user's process, or not Linux
        return None
