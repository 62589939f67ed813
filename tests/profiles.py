"""Small profiles for tests: written by the trainer's own writer, with times that the test chooses."""

from __future__ import annotations

from pathlib import Path

from kennel.classifier.profiler.timeline import EVAL, TRAIN, Clock, Timeline

MS = 1_000_000  # ns
PARTS = {  # of a step, in ms
    "DataLoaderIter": 10,
    "HostToDevice": 1,
    "Forward": 30,
    "Backward(post-forward)": 50,
    "Optimizer": 5,
    "Synchronize": 1,
}


def write_timeline(
    folder: Path,
    *,
    steps: int = 20,
    node: str = "algo-1",
    parts: dict[str, int] | None = None,
    wall_us: int = 1_764_036_000_000_000,
) -> None:
    """A training of so many steps, one after the other, then a validation of one batch.

    Args:
        folder: of the profile.
        steps: training steps.
        node: whose.
        parts: milliseconds of each part of a step.
        wall_us: when it began.
    """
    timeline = Timeline(folder, node, clock=Clock(wall_us, 0))
    now = 0
    timeline.add("Initialization", now, now := now + 500 * MS, {}, name="Imports")
    for step in range(steps):
        about = {"step_num": str(step), "mode": "TRAIN"}
        begun = now
        for phase, milliseconds in (parts or PARTS).items():
            timeline.add(phase, now, now := now + milliseconds * MS, about)
        timeline.add(TRAIN, begun, now, about | {"epoch": 1, "images": 32})
        timeline.add("DataLoaderWorker", begun - 9 * MS, begun, about | {"worker_id": 0, "images": 32}, tid=0)
    begun = now
    timeline.add(EVAL, begun, now := now + 40 * MS, {"step_num": "0", "mode": "EVAL", "epoch": 1, "images": 32})
    timeline.add("Validation", begun, now, {"epoch": 1})
    timeline.add("Finalization", now, now + 100 * MS, {}, name="Artifact")
    timeline.close()
