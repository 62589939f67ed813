"""What a training job's hosts use of this machine, measured while they run.

Source: SageMaker developer guide, "Amazon SageMaker AI metrics in Amazon CloudWatch": CPUUtilization is the sum over
the cores, 100 for each; MemoryUtilization and DiskUtilization go from 0 to 100.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kennel.emulator.runners.base import Runner, RunnerError
from kennel.emulator.state.line_files import append

INTERVAL_S = 20.0  # SageMaker has a minute; a job on a laptop may not last one


class HostMetrics:
    """Appends lines to a job's file of measurements, from a thread, until it is told to leave."""

    def __init__(self, runner: Runner, hosts: Mapping[str, str], folder: Path, file: Path) -> None:
        """Measure.

        Args:
            runner: knows what runs.
            hosts: the handle of each host.
            folder: on the disk that they fill.
            file: gets a line for each value: timestamp (s since 1970), name, value, host.
        """
        self._runner = runner
        self._hosts = dict(hosts)
        self._folder = folder
        self._file = file
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin. The thread ends by itself, within seconds of `leave`; nobody has to wait for it."""
        threading.Thread(target=self._run, daemon=True, name=f"usage-{self._folder.parent.name}").start()

    def leave(self) -> None:
        """Write nothing any more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(RunnerError, OSError):  # the next round may succeed; the job knows what has ended
                values = list(self._measure())
                if values and not self._ended.is_set():
                    append(self._file, "".join(json.dumps(value) + "\n" for value in values).encode())
            self._ended.wait(INTERVAL_S)

    def _measure(self) -> Iterator[dict[str, Any]]:
        usage = self._runner.usage(list(self._hosts.values()))
        disk = shutil.disk_usage(self._folder)
        now_s = time.time()
        for host, handle in self._hosts.items():
            if handle not in usage:
                continue
            values = {
                "CPUUtilization": usage[handle].cpu_percent,
                "MemoryUtilization": usage[handle].memory_percent,
                "DiskUtilization": 100 * disk.used / disk.total,
            }
            for name, value in values.items():
                yield {"timestamp": now_s, "name": name, "value": round(value, 3), "host": host}
