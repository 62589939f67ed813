"""What the machine and the cgroup leave, given as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kennel.classifier.data.memory import available_bytes

pytestmark = pytest.mark.pure

MIB = 1024 * 1024


def system(root: Path, **files: str) -> Path:
    """A file system with the files of /proc and /sys that are read; two underscores stand for a slash."""
    for name, text in {"proc__meminfo": "MemTotal: 8192 kB\nMemAvailable: 4096000 kB\n", **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_limit_the_machine_decides(tmp_path):
    assert available_bytes(system(tmp_path)) == 4096000 * 1024
    unlimited = {"sys__fs__cgroup__memory.max": "max\n", "sys__fs__cgroup__memory.current": "1\n"}
    assert available_bytes(system(tmp_path, **unlimited)) == 4096000 * 1024


@pytest.mark.parametrize(
    ("limit", "used", "stat", "cached"),
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory__memory.limit_in_bytes",
            "memory__memory.usage_in_bytes",
            "memory__memory.stat",
            "total_inactive_file",
        ),
    ],
)
def test_a_containers_limit_counts_but_not_the_files_that_it_has_read(tmp_path, limit, used, stat, cached):
    files = {limit: f"{1000 * MIB}\n", used: f"{900 * MIB}\n", stat: f"anon 5\n{cached} {300 * MIB}\nfile 7\n"}
    root = system(tmp_path, **{f"sys__fs__cgroup__{name}": text for name, text in files.items()})
    assert available_bytes(root) == 400 * MIB
