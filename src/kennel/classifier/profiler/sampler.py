"""Writes system metrics beside a job: `python -m kennel.classifier.profiler.sampler FOLDER --pid PID`.

It is a process of its own, because a thread would stop the training's own to read files, and because it outlives a
training that is killed: it then finishes the files that the training left. It needs the standard library only, and
ends with the job.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from kennel.classifier.profiler.gpus import Gpus
from kennel.classifier.profiler.system import Machine, Value, in_container, stat_fields
from kennel.classifier.profiler.timeline import finish

_LOG = logging.getLogger(__name__)
_MINUTE_S = 60
_LOOK_S = 1.0  # how late the end of the job may be noticed


class SystemLog:
    """Lines of values in a file a minute, as SageMaker's platform writes them.

    Each sample is appended by one write, so readers see whole lines, and a kill leaves whole lines.
    """

    def __init__(self, folder: Path, node: str) -> None:
        self._folder, self._node = folder, node
        self._path: Path | None = None
        self._file = -1
        self._warned = False

    def write(self, values: Iterable[Value], at_s: float) -> None:
        """Append a sample; what a full disk does not take is dropped with one warning."""
        lines = [
            json.dumps(
                {"Type": v.type, "Name": v.name, "Dimension": v.dimension, "Value": round(v.value, 2),
                 "NodeId": self._node, "Timestamp": at_s}, separators=(",", ":"),
            ) + "\n"
            for v in values
        ]  # fmt: skip
        try:
            self._append("".join(lines).encode(), at_s)
        except OSError as error:
            if not self._warned:
                _LOG.warning("System metrics cannot be written: %s", error)
            self._warned = True

    def _append(self, data: bytes, at_s: float) -> None:
        minute = int(at_s) // _MINUTE_S * _MINUTE_S
        hour = time.strftime("%Y%m%d%H", time.gmtime(minute))
        path = self._folder / f"system/incremental/{hour}/{minute}.{self._node}.json"
        if path != self._path:
            self.close()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._path = path
            _drop_half_line(self._file)
        size = os.fstat(self._file).st_size
        if os.write(self._file, data) < len(data):
            os.ftruncate(self._file, size)

    def close(self) -> None:
        """Close the file of this minute."""
        if self._path is not None:
            os.close(self._file)
            self._path = None


def _drop_half_line(file: int) -> None:
    """Of an earlier run in the same minute whose disk was full: smdebug's reader refuses a file with one inside."""
    data = os.pread(file, os.fstat(file).st_size, 0)
    os.ftruncate(file, data.rfind(b"\n") + 1)


def watch(log: SystemLog, machine: Machine, pid: int, interval_s: float) -> None:
    """Write a sample every `interval_s` until the process ends or SIGTERM comes, upon which the last one is made."""
    gpus = Gpus()
    job = _identity(pid)
    counters, then = machine.counters(), time.monotonic()
    due, told = then + interval_s, False
    while job and not told:
        while (left_s := due - time.monotonic()) > 0 and not told and _identity(pid) == job:
            told = signal.sigtimedwait([signal.SIGTERM], min(left_s, _LOOK_S)) is not None
        if _identity(pid) != job:
            break
        before, before_s = counters, then
        counters, then = machine.counters(), time.monotonic()
        log.write([*machine.values(before, counters, max(1e-3, then - before_s)), *gpus.values()], time.time())
        due = max(due + interval_s, then)  # of samples that are too late for their turn one is made
    log.close()
    gpus.close()


def _identity(pid: int) -> str:
    """When a process started, since its id may be another's later; empty when it has ended."""
    fields = stat_fields(pid)
    return fields[19] if fields and fields[0] not in ("Z", "X") else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Sample until the job ends; then finish what it left."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # first: the job may end at once
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    if not stat_fields(arguments.pid):
        _LOG.error("No process %d in /proc, from which system metrics are read.", arguments.pid)
        return 1
    container = arguments.account == "container" or (arguments.account == "auto" and in_container(arguments.pid))
    machine = Machine(arguments.pid, container=container)
    watch(SystemLog(arguments.folder, arguments.node), machine, arguments.pid, arguments.interval_ms / 1000)
    finish(arguments.folder, arguments.node)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kennel.classifier.profiler.sampler", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("folder", type=Path, help="of the profile")
    parser.add_argument("--pid", type=int, required=True, help="the job's first process")
    parser.add_argument("--node", default="algo-1", help="name of the host (default algo-1)")
    parser.add_argument("--interval-ms", type=int, default=500, help="between two samples (default 500)")
    parser.add_argument(
        "--account",
        choices=("auto", "container", "tree"),
        default="auto",
        help="whose memory and CPU time count as the job's: the process's control group, or what is below the process",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
