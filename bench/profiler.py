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
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from bench import machine
from bench.rows import Row, show
from kennel.classifier.debugger import hook as debugging
from kennel.classifier.network.model import build
from kennel.classifier.profiler.profiler import Profiler
from kennel.classifier.profiler.sampler import SystemLog
from kennel.classifier.profiler.system import Machine
from kennel.classifier.profiler.timeline import TRAIN, Timeline
from kennel.contract.paths import ContainerPaths

_PARTS = ("HostToDevice", "Forward", "Backward(post-forward)", "Optimizer", "Synchronize")
_STAMP = (0, 0, 1)
_STEPS = 51  # the hook saves reductions at the first one and at every 25th after it
_BATCH, _SIDE_PX = 4, 64


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


def training(profiler: Profiler, folder: Path | None) -> Iterator[None]:
    """Steps of ResNet18 on one thread, each done when it is asked for; with a folder the debugger's hook is on it."""
    torch.manual_seed(0)
    model, loss = build("resnet18", 2).train(), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters())
    debugger = debugging.attach(
        model,
        [loss],
        ContainerPaths(folder or Path()),
        choice="auto" if folder else "off",
        steps_per_epoch=_STEPS,
        profiler=profiler,
    )
    debugger.train_mode()
    batch = (torch.rand(_BATCH, 3, _SIDE_PX, _SIDE_PX), torch.zeros(_BATCH, dtype=torch.long))
    for images, targets in profiler.steps(iter([batch] * _STEPS), TRAIN, 0, 1):
        with profiler.span("Forward"):
            error = loss(model(images), targets)
        with profiler.span("Backward(post-forward)"):
            error.backward()
        with profiler.span("Optimizer"):
            optimizer.step()
            optimizer.zero_grad()
        profiler.end_step()
        yield


def added_ms(folder: Path) -> tuple[float, float]:
    """Mean CPU time of a step without debugger and profiler, and what they add; the two trainings take turns."""
    observed, bare = training(Profiler(Timeline(folder, "algo-1")), folder), training(Profiler(), None)
    spent = {observed: 0.0, bare: 0.0}
    for one in (observed, bare):
        next(one)  # the first step makes room, and the hook writes what it knows of the network
    for _ in range(_STEPS - 1):
        for one in (observed, bare):
            started_s = time.process_time()
            next(one)
            spent[one] += time.process_time() - started_s
    plain_ms = spent[bare] / (_STEPS - 1) * 1e3
    return plain_ms, spent[observed] / (_STEPS - 1) * 1e3 - plain_ms


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
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as folder:  # once: smdebug has one hook in a process
        plain, added = added_ms(Path(folder))
    both = f"beside {plain:.0f} ms of ResNet18 on {_BATCH} images of {_SIDE_PX} px, one thread; mean of {_STEPS - 1}"
    together = Row("debugger and profiler", "CPU time that both add to a step", "", (added,), "ms", both)
    row = Row("step", "CPU time that the profiler adds to a step", "", on, "us", "8 spans, written every 2 s")
    off_row = Row("step, off", "the same with profiler=off", "", off, "us")
    share = f"{statistics.median(samples) / 500:.2%} of a core at one every 500 ms"
    show(machine.describe(), [row, off_row, together, Row("sample", "CPU time of a sample", "", samples, "ms", share)])


if __name__ == "__main__":
    main()
