"""Linux's counters, from folders laid out as proc and sys are, and from this machine's own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kennel.classifier.profiler.system import Cgroup, Counters, Machine, Tree, in_container

pytestmark = pytest.mark.pure

MIB = 1 << 20
PID = os.getpid()  # of which the kernel tells the cores it may run on


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {
    f"proc/{PID}/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n",
    "sys/fs/cgroup/memory.max": f"{1024 * MIB}\n",
    "sys/fs/cgroup/memory.current": f"{300 * MIB}\n",
    "sys/fs/cgroup/memory.stat": f"anon {100 * MIB}\nfile {200 * MIB}\ninactive_file {44 * MIB}\n",
}
V1 = {
    f"proc/{PID}/cgroup": "5:memory:/docker/0a1b\n4:cpu,cpuacct:/docker/0a1b\n1:name=systemd:/docker/0a1b\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpuacct.usage": "2500000000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{1024 * MIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{300 * MIB}\n",
    "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {44 * MIB}\n",
}


@pytest.mark.parametrize(("files", "cores"), [(V2, 1.5), (V1, 0.5)], ids=["version 2", "version 1"])
def test_limits_and_use_of_a_container_seen_from_inside(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    group = Cgroup(PID, lay(tmp_path, files))
    assert group.cpu_limit() == cores
    assert group.cpu_s() == 2.5
    assert group.memory_limit_bytes() == 1024 * MIB
    assert group.memory_bytes() == 256 * MIB


def test_a_container_seen_from_outside_is_found_below_its_path(tmp_path: Path) -> None:
    outside = {name.replace("cgroup/", "cgroup/system.slice/docker-0a1b.scope/"): text for name, text in V2.items()}
    outside[f"proc/{PID}/cgroup"] = "0::/system.slice/docker-0a1b.scope\n"
    outside["sys/fs/cgroup/cpu.stat"] = "usage_usec 999000000\n"  # all of the machine
    assert Cgroup(PID, lay(tmp_path, outside)).cpu_s() == 2.5


def test_no_limit_is_none(tmp_path: Path) -> None:
    without = V2 | {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}
    group = Cgroup(PID, lay(tmp_path / "2", without))
    assert (group.cpu_limit(), group.memory_limit_bytes()) == (None, None)
    without = V1 | {
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    group = Cgroup(PID, lay(tmp_path / "1", without))
    assert (group.cpu_limit(), group.memory_limit_bytes()) == (None, None)
    assert Cgroup(PID, tmp_path / "nothing").cpu_limit() is None


def machine_files(core: str) -> dict[str, str]:
    return {
        "proc/stat": f"cpu  1 1 1 1 1 1 1 1 0 0\n{core} 100 0 50 800 50 0 0 0 0 0\nintr 1\n",
        "proc/meminfo": f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {6 << 20} kB\n",
        "proc/diskstats": (
            "   7       0 loop0 9 0 9 0 9 0 9 0 0 0 0\n"
            " 259       0 nvme0n1 100 0 2000 0 50 0 1000 0 0 0 0\n"
            " 259       1 nvme0n1p1 99 0 1999 0 49 0 999 0 0 0 0\n"
        ),
        "sys/block/nvme0n1/size": "1\n",
        f"proc/{PID}/net/dev": (
            "Inter-|   Receive  |  Transmit\n face |bytes packets\n"
            "    lo: 500 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n"
            "  eth0: 3000 1 0 0 0 0 0 0 700 1 0 0 0 0 0 0\n"
        ),
    }


def values_of(root: Path, later: dict[str, str]) -> dict[tuple[str, str], float]:
    """What a container did in two seconds between the machine's files and their later form."""
    machine = Machine(PID, container=True, system=root)
    before = machine.counters()
    lay(root, later)
    return {(v.name, v.dimension): v.value for v in machine.values(before, machine.counters(), 2.0)}


def test_values_are_what_passed_between_two_readings(tmp_path: Path) -> None:
    core = f"cpu{min(os.sched_getaffinity(0))}"
    root = lay(tmp_path, V2 | machine_files(core) | {"sys/fs/cgroup/memory.max": "max"})
    values = values_of(
        root,
        {
            "proc/stat": f"{core} 150 0 75 900 75 0 0 0 0 0\n",  # 75 busy and 25 waiting of 200 ticks
            "proc/diskstats": " 259 0 nvme0n1 160 0 6000 0 90 0 5000 0 0 0 0\n",
            "sys/fs/cgroup/cpu.stat": "usage_usec 3500000\n",
            f"proc/{PID}/net/dev": "a\nb\n eth0: 5000 1 0 0 0 0 0 0 1700 1 0 0 0 0 0 0\n",
        },
    )
    assert values == {
        (core, "CPUUtilization"): 37.5,
        (core, "I/OWaitPercentage"): 12.5,
        ("container", "ContainerCPUUtilization"): 50.0,  # 1 s of 2 s on one core; the quota of 1.5 is more than that
        ("MemoryUsedPercent", ""): 25.0,
        ("MemoryUsedBytes", ""): 256 * MIB,
        ("IOPS", ""): 50.0,
        ("ReadThroughputInBytesPerSecond", ""): 4000 * 512 / 2,
        ("WriteThroughputInBytesPerSecond", ""): 4000 * 512 / 2,
        ("ReceiveBytesPerSecond", "Algorithm"): 1000.0,
        ("TransmitBytesPerSecond", "Algorithm"): 500.0,
    }


def test_with_a_limit_memory_is_a_part_of_the_limit_and_time_of_the_quota(tmp_path: Path) -> None:
    core = f"cpu{min(os.sched_getaffinity(0))}"
    root = lay(tmp_path, V1 | machine_files(core))
    machine = Machine(PID, container=True, system=root)
    assert (machine.cores, machine.cpu_limit, machine.memory_limit_bytes) == (1, 0.5, 1024 * MIB)
    values = values_of(root, {"sys/fs/cgroup/cpu,cpuacct/cpuacct.usage": "3500000000\n"})
    assert values["MemoryUsedPercent", ""] == 25.0
    assert values["container", "ContainerCPUUtilization"] == 100.0


def test_a_network_that_nobody_may_see_is_left_out(tmp_path: Path) -> None:
    files = machine_files("cpu0")
    del files[f"proc/{PID}/net/dev"]
    assert not [
        name
        for name, _ in values_of(lay(tmp_path, files), {})
        if name.endswith("BytesPerSecond") and "Through" not in name
    ]


def test_counters_that_went_back_are_no_negative_values(tmp_path: Path) -> None:
    machine = Machine(PID, container=False, system=lay(tmp_path, machine_files("cpu0")))
    high = Counters({}, 1e9, (10**9, 10**9, 10**9), (10**9, 10**9))
    assert all(value.value >= 0 for value in machine.values(high, machine.counters(), 1.0))


BUSY = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'while True: pass']); time.sleep(600)"


def test_a_tree_counts_the_children_of_this_machines_real_processes() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True) as process:
        try:
            tree, deadline = Tree(process.pid), time.monotonic() + 60
            while tree.cpu_s() < 0.5 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert tree.cpu_s() >= 0.5
            assert 1 * MIB < tree.memory_bytes() < 200 * MIB
        finally:
            os.killpg(process.pid, 9)
    assert tree.cpu_s() == 0


def test_this_machines_own_files_are_understood() -> None:
    machine = Machine(PID, container=in_container(PID))
    before = machine.counters()
    values = {value.name: value for value in machine.values(before, machine.counters(), 0.1)}
    cores = [name for name in values if name.startswith("cpu")]
    assert len(cores) == machine.cores == len(os.sched_getaffinity(0))
    assert 0 < values["MemoryUsedPercent"].value < 100
    assert values["MemoryUsedBytes"].value > 10 * MIB
