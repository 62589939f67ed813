"""`python -m bench.trials`: what head-only trials cost that share a folder, against one that computes all by itself.

Cost is processor time, so that what else runs on the machine counts little; each trial is a process of its own, as the
process runner starts it. The trials differ in learning rate and batch size.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from bench.machine import describe

_RATES = (0.001, 0.003, 0.01, 0.03)
_BATCHES = (16, 32, 64)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300, help="of each channel's two classes together (default 300)")
    parser.add_argument("--views", type=int, default=10, help="feature_views (default 10)")
    parser.add_argument("--trials", type=int, default=20, help="that share (default 20)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for channel, count in (("train", arguments.photos), ("validation", arguments.photos // 3)):
            _photos(base / "input/data" / channel, count)
        alone = _trial(base, 0, arguments.views)
        (base / "shared").mkdir()
        shared = [_trial(base, number, arguments.views) for number in range(arguments.trials)]
    print(", ".join(f"{name} {value}" for name, value in describe().items()))
    print(f"{arguments.photos} photos, {arguments.views} views, resnet18, crop 224; processor seconds")
    print(f"one trial alone        {alone:.1f}")
    print(f"first that shares      {shared[0]:.1f}")
    if len(shared) > 1:
        middle, least, most = statistics.median(shared[1:]), min(shared[1:]), max(shared[1:])
        print(f"each further           {middle:.1f} (median; {least:.1f} to {most:.1f})")
    print(f"{len(shared)} trials              {sum(shared):.1f}, {sum(shared) / alone:.2f} times one alone")


def _photos(folder: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    for place in range(count):
        name = ("blue", "red")[place % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 160, (300, 400, 3), dtype=np.uint8)
        pixels[..., 2 * (1 - place % 2)] += 90
        Image.fromarray(pixels).resize((640, 480)).save(folder / name / f"{place:04}.jpg")


def _trial(base: Path, number: int, views: int) -> float:
    """Run a trial; returns the processor seconds that it took with all its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    options = {
        "train-layers": "head", "pretrained": "none", "precision": "fp32", "channels-last": "on", "debugger": "off",
        "profiler": "off", "feature-views": views, "epochs": views, "lr": _RATES[number % len(_RATES)],
        "batch-size": _BATCHES[number % len(_BATCHES)],
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "kennel.classifier", "train", "--base-dir", str(base), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
