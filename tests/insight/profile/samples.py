"""Profiles with the times and values that a test chooses, in the files that docs/profiler.md describes.

Timelines go through the trainer's own writer. System metrics are SIMULATED: the lines have the form of the sampler's,
and of a dump of a real SageMaker job (December 2024), but no GPU was at hand, so every value of a GPU was chosen here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kennel.classifier.profiler.timeline import EVAL, TRAIN, Clock, Timeline

BEGIN_S = 1_764_036_000  # 2025-11-25 02:00:00 UTC
MS = 1_000_000  # ns
STEP = {  # ms
    "DataLoaderIter": 2,
    "HostToDevice": 1,
    "Forward": 30,
    "Backward(post-forward)": 50,
    "Optimizer": 5,
    "Synchronize": 2,
}


def timeline(
    folder: Path,
    parts: Callable[[int], Mapping[str, float]] = lambda _: STEP,
    *,
    steps: int = 40,
    first: int = 0,
    node: str = "algo-1",
    begin_s: float = BEGIN_S,
    initialisation_s: float = 1.0,
    workers: int | None = None,
    load_ms: float = 0.0,
    validate_every: int = 20,
) -> float:
    """A training of one process: initialisation, steps with a validation now and then, finalisation.

    Args:
        folder: of the profile.
        parts: milliseconds of the parts of a step, by its number.
        steps: how many.
        first: number of the first one.
        node: which machine.
        begin_s: since 1970.
        initialisation_s: before the first step.
        workers: loader processes that appear in the timeline; None: nothing is told of them.
        load_ms: what a batch takes one of them.
        validate_every: steps.

    Returns:
        the end, seconds since 1970.
    """
    writer, now = Timeline(folder, node, clock=Clock(int(begin_s * 1e6), 0)), 0
    writer.add("Initialization", now, now := round(initialisation_s * 1000) * MS, {}, name="Imports")
    for step in range(first, first + steps):
        about, begun = {"step_num": str(step), "mode": "TRAIN"}, now
        for phase, milliseconds in parts(step).items():
            writer.add(phase, now, now := now + int(milliseconds * MS), about)
        writer.add(TRAIN, begun, now, {**about, "epoch": 1 + (step - first) // validate_every, "images": 32})
        if workers is not None:
            worker = step % workers if workers else -1
            end = begun + int(parts(step).get("DataLoaderIter", 0) * MS)
            about_load = {**about, "worker_id": worker, "images": 32}
            writer.add("DataLoaderWorker", end - int(load_ms * MS), end, about_load, tid=worker)
        if step % validate_every == validate_every - 1:
            begun = now
            for batch in range(3):
                about = {"step_num": str(batch), "mode": "EVAL", "epoch": 1, "images": 32}
                writer.add(EVAL, now, now := now + 40 * MS, about)
            writer.add("Validation", begun, now, {"epoch": 1})
    writer.add("Finalization", now, now := now + 500 * MS, {}, name="Artifact")
    writer.close()
    return begin_s + now / 1e9


def system(
    folder: Path,
    values: Mapping[str, Callable[[int], float]],
    *,
    count: int = 100,
    node: str = "algo-1",
    cores: int = 2,
    gpus: Sequence[str] = ("gpu0",),
    begin_s: float = BEGIN_S,
    interval_s: float = 0.5,
) -> None:
    """System metrics of a node, one file.

    Args:
        folder: of the profile.
        values: Dimension (or Name, for memory) -> value by the sample's number. `CPUUtilization` is written for every
            core, what begins with GPU for every GPU; a key `GPUUtilization gpu1` is for that GPU alone.
        count: samples.
        node: which machine.
        cores: of the machine.
        gpus: of the machine.
        begin_s: of the first sample.
        interval_s: between two.
    """
    lines = []
    for number in range(count):
        for key, value in values.items():
            metric, _, only = key.partition(" ")
            for kind, name, dimension in _named(metric, cores, [only] if only else gpus):
                lines.append(
                    {"Type": kind, "Name": name, "Dimension": dimension, "Value": value(number), "NodeId": node,
                     "Timestamp": begin_s + number * interval_s}
                )  # fmt: skip
    path = folder / f"system/incremental/2025112502/{int(begin_s)}.{node}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _named(metric: str, cores: int, gpus: Sequence[str]) -> list[tuple[str, str, str]]:
    if metric in ("CPUUtilization", "I/OWaitPercentage"):
        return [("cpu", f"cpu{core}", metric) for core in range(cores)]
    if metric == "ContainerCPUUtilization":
        return [("cpu", "container", metric)]
    if metric.startswith("GPU"):
        return [("gpu", gpu, metric) for gpu in gpus]
    return [("memory" if metric.startswith("Memory") else "i/o", metric, "")]


def described(folder: Path, **facts: object) -> None:
    """What a process tells of itself."""
    path = folder / f"run/{os.getpid()}-algo-1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"node": "algo-1", "pid": os.getpid(), "rank": 0, **facts}))


def steady(value: float) -> Callable[[int], float]:
    """The same at every moment."""
    return lambda _: value
