"""Run a program and watch it from outside: when each line came, and how much memory its whole tree held."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_SAMPLE_S = 0.1
_LIMIT_S = 900.0
# Kennel redraws its progress line on a terminal after the first step: `epoch 1/4 ░░░ 1/8 loss 0.7 33 images/s`
_STEP = re.compile(rb"epoch \d+/\d+ \S+ \d+/\d+ loss")


@dataclass
class Observed:
    """What was seen of a program; seconds count from its start."""

    started: float  # by time.perf_counter
    lines: list[tuple[float, str]] = field(default_factory=list)  # of stdout
    errors: bytes = b""  # stderr
    first_step_s: float | None = None
    peak_bytes: int = 0  # proportional set size of the process tree; 0 when it was not sampled
    cpu_s: float = 0.0  # processor time of the program and of all below it that was waited for
    others: float = 0.0  # share of the machine's processor time that went to other programs and guests meanwhile

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def seconds_of(self, pattern: str) -> list[float]:
        """When the lines came that match."""
        return [seconds for seconds, line in self.lines if re.search(pattern, line)]

    def first(self, pattern: str) -> str:
        """The first line that matches; empty when none does."""
        return next((line for _, line in self.lines if re.search(pattern, line)), "")


def watch(command: list[str], *, memory: bool = False, enough: str | None = None) -> Observed:
    """Run a program in the repository's root until it ends; its stderr is a terminal, so it shows its progress.

    Args:
        command: program and arguments.
        memory: sample the memory of the process tree every 0.1 s, which costs a little time.
        enough: SIGTERM is sent at the first line that matches; Kennel then leaves out its reports.

    Raises:
        RuntimeError: the program failed or took more than 15 minutes; with the end of what it said.
    """
    terminal, its_end = pty.openpty()
    others, before = Others(), os.times()
    seen = Observed(time.perf_counter())
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=its_end)
    os.close(its_end)
    try:
        _follow(process, terminal, seen, memory=memory, enough=enough)
    finally:
        process.kill()  # does nothing to one that has ended
        status = process.wait()
        os.close(terminal)
    if status != 0:
        said = "\n".join(line for _, line in seen.lines[-10:]) + seen.errors[-2000:].decode(errors="replace")
        raise RuntimeError(f"{' '.join(command)} ended with status {status}:\n{said}")
    seen.others, after = others.share(), os.times()
    seen.cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return seen


def _machine_s() -> tuple[float, float]:
    """Seconds that all processors were busy and idle since boot; time stolen by other guests counts as busy.

    Source: Linux, man 5 proc, /proc/stat; guest time is part of user time.
    """
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), idle / os.sysconf("SC_CLK_TCK")


def _own_s(pids: Iterable[int] = ()) -> float:
    """Processor seconds of this program, of all that it has started and waited for, and of processes that still run."""
    times, tick = os.times(), os.sysconf("SC_CLK_TCK")
    running = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        running += sum(int(field) for field in fields[11:15]) / tick  # itself and the children it waited for
    return times.user + times.system + times.children_user + times.children_system + running


class Others:
    """The share of the machine's processor time that went to other programs and guests since it was made."""

    def __init__(self, *pids: int) -> None:
        """Begin. `pids`: running processes that count as our own, beside those that we wait for."""
        self._pids = pids
        self._before = _machine_s(), _own_s(pids)

    def share(self) -> float:
        """0 to 1."""
        return _others(self._before, (_machine_s(), _own_s(self._pids)))


def _others(before: tuple[tuple[float, float], float], after: tuple[tuple[float, float], float]) -> float:
    busy, idle = (late - early for early, late in zip(before[0], after[0], strict=True))
    return max(0.0, busy - (after[1] - before[1])) / max(1e-9, busy + idle)


def _follow(
    process: subprocess.Popen[bytes], terminal: int, seen: Observed, *, memory: bool, enough: str | None
) -> None:
    """Read both streams until stdout is closed, which is when the last process of the tree has ended."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    output, rest = process.stdout.fileno(), b""
    while seen.now_s < _LIMIT_S:
        ready, _, _ = select.select([output, terminal], [], [], _SAMPLE_S)
        if memory:
            seen.peak_bytes = max(seen.peak_bytes, tree_bytes(process.pid))
        if terminal in ready:
            _read_errors(terminal, seen)
        if output in ready:
            chunk = os.read(output, 65536)
            if not chunk:
                process.wait(timeout=30)
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in (line.decode(errors="replace") for line in lines):
                seen.lines.append((seen.now_s, line))
                if enough and re.search(enough, line):
                    process.send_signal(signal.SIGTERM)


def _read_errors(terminal: int, seen: Observed) -> None:
    try:
        seen.errors += os.read(terminal, 65536)
    except OSError:  # Linux's end of file on a terminal whose other end is closed
        time.sleep(_SAMPLE_S)
    if seen.first_step_s is None and _STEP.search(seen.errors):
        seen.first_step_s = seen.now_s


def tree_bytes(pid: int, part: str = "Pss") -> int:
    """Proportional set size of a process and all below it: a page that n of them share counts 1/n in each.

    Args:
        pid: the process.
        part: `Pss`, all of it, or `Pss_Anon`, what the system cannot take back, as it can the pages of mapped files.

    Source: Linux, Documentation/filesystems/proc.rst, `smaps_rollup` and `task/<tid>/children`.
    """
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = [
            int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:  # it has ended between two reads
        return 0
    own = re.search(rf"^{part}:\s+(\d+) kB", rollup, re.MULTILINE)
    return (int(own[1]) * 1024 if own else 0) + sum(tree_bytes(child, part) for child in children)
