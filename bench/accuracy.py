"""Accuracy of a recipe over several seeds: `python -m bench.accuracy [--seeds N] DATA WEIGHTS name=value ...`.

DATA holds train/ and validation/ (or val/) with a folder a class, WEIGHTS is a state dict. Each seed is a training of
its own through the trainer's command, with another order, other crops and another fresh head. What is printed is
the validation accuracy of the artifact as it lies on disk, which is the best epoch's, and that of the last epoch, which
no choice of an epoch has flattered.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.machine import describe


@dataclass(frozen=True)
class Result:
    """A training of one seed."""

    seed: int
    best: float
    last: float
    seconds: float


def main() -> None:
    """Train with each seed and print a Markdown table."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        results = [run(Path(folder), arguments, seed) for seed in range(arguments.seeds)]
    for name, value in describe().items():
        print(f"{name}: {value}")
    print(f"hyperparameters: {' '.join(arguments.hyperparameters)}\n")
    print("| seed | accuracy of the artifact | of the last epoch | seconds |\n|---|---|---|---|")
    for one in results:
        print(f"| {one.seed} | {one.best:.4f} | {one.last:.4f} | {one.seconds:.0f} |")
    best, last = [one.best for one in results], [one.last for one in results]
    seconds = statistics.mean(one.seconds for one in results)
    print(f"| mean ± standard deviation | {_spread(best)} | {_spread(last)} | {seconds:.0f} |")


def run(folder: Path, arguments: argparse.Namespace, seed: int) -> Result:
    """One training in a job folder of its own."""
    job = folder / f"seed-{seed}"
    channels = job / "input/data"
    (channels / "pretrained").mkdir(parents=True)
    validation = next(arguments.data / name for name in ("validation", "val") if (arguments.data / name).is_dir())
    (channels / "train").symlink_to(arguments.data.absolute() / "train")
    (channels / "validation").symlink_to(validation.absolute())
    (channels / "pretrained" / arguments.weights.name).symlink_to(arguments.weights.absolute())
    flags = [part for pair in arguments.hyperparameters for part in f"--{pair}".split("=", 1)]
    command = [sys.executable, "-m", "kennel.classifier", "train", "--base-dir", str(job), "--seed", str(seed), *flags]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"seed {seed} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    summary = json.loads((job / "output/data/validation_summary.json").read_text())
    rows = [json.loads(line) for line in (job / "output/data/metrics.jsonl").read_text().splitlines()]
    print(f"seed {seed}: {summary['accuracy']:.4f}", file=sys.stderr, flush=True)
    return Result(seed, summary["accuracy"], rows[-1]["validation_accuracy"], time.monotonic() - started)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.4f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("hyperparameters", nargs="*", help="name=value")
    return parser.parse_args()


if __name__ == "__main__":
    main()
