"""What the profiler itself computes: microseconds of CPU time a step, and milliseconds a sample; one Markdown table.

CPU time of this process alone, so that other programs change it little. What a whole training loses is in
`python -m bench.train --only observed`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench import machine
from bench.rows import Row, show
from kennel.classifier.profiling import Profiler
from kennel.classifier.sampler import SystemLog
from kennel.classifier.system import Machine
from kennel.classifier.timeline import TRAIN, Timeline

_PARTS = ("HostToDevice", "Forward", "Backward(post-forward)", "Optimizer", "Synchronize")
_STAMP = (0, 0, 1)


def step_us(profiler: Profiler, steps: int) -> float:
    """A step with all its parts and nothing in them, the writing of its spans included."""
    batch = (torch.zeros(1), torch.zeros(32))
    batches = itertools.repeat((*batch, _STAMP) if profiler.is_on else batch, steps)
    started_s = time.process_time()
    for _ in profiler.steps(batches, TRAIN, 0, 1):
        for part in _PARTS:
            with profiler.span(part):
                pass
        profiler.end_step()
    profiler.close()
    return (time.process_time() - started_s) / steps * 1e6


def sample_ms(folder: Path, samples: int) -> float:
    """A sample of this machine, as the sampler takes and writes it."""
    machine_, log = Machine(os.getpid(), container=False), SystemLog(folder, "algo-1")
    before, started_s = machine_.counters(), time.process_time()
    for _ in range(samples):
        after = machine_.counters()
        log.write(list(machine_.values(before, after, 0.5)), time.time())
        before = after
    log.close()
    return (time.process_time() - started_s) / samples * 1e3


def in_new_folders(measure: Callable[[Path], float], rounds: int) -> tuple[float, ...]:
    """One value a round."""
    values = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="kennel-bench-") as folder:
            values.append(measure(Path(folder)))
    return tuple(values)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.profiler", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured (default 7)")
    rounds = parser.parse_args().rounds
    on = in_new_folders(lambda folder: step_us(Profiler(Timeline(folder, "algo-1")), 5000), rounds)
    off = in_new_folders(lambda _: step_us(Profiler(), 5000), rounds)
    samples = in_new_folders(lambda folder: sample_ms(folder, 300), rounds)
    row = Row("step", "CPU time that the profiler adds to a step", "", on, "us", "8 spans, written every 2 s")
    off_row = Row("step, off", "the same with profiler=off", "", off, "us")
    share = f"{statistics.median(samples) / 500:.2%} of a core at one every 500 ms"
    show(machine.describe(), [row, off_row, Row("sample", "CPU time of a sample", "", samples, "ms", share)])


if __name__ == "__main__":
    main()
