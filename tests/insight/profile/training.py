"""A training whose data is as slow as a test wants: the real trainer, profiler and loader, a data set that sleeps.

It sleeps, so it needs no CPU: what more loader processes bring can be seen on any machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from kennel.classifier.data import loader
from kennel.classifier.debugger.hook import Debugger
from kennel.classifier.network.precision import Precision
from kennel.classifier.processes.distributed import World
from kennel.classifier.processes.stop import StopSignal
from kennel.classifier.profiler import report as profile_report
from kennel.classifier.profiler import start as profile_start
from kennel.classifier.training.trainer import Data, Trainer
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths

SIDE, CLASSES = 16, 2


class SlowImages(Dataset[tuple[torch.Tensor, int]]):
    """Noise in two classes; each image takes `sleep_ms` to come."""

    def __init__(self, sleep_ms: float) -> None:
        self._sleep_s = sleep_ms / 1000

    def __getitem__(self, key: Any) -> tuple[torch.Tensor, int]:
        time.sleep(self._sleep_s)
        number = key[1] if isinstance(key, tuple) else key
        return torch.full((3, SIDE, SIDE), number % 251, dtype=torch.uint8), number % CLASSES


def train(
    base: Path, *, workers: int, sleep_ms: float, batch: int, steps: int, epochs: int, interval_ms: int = 500
) -> None:
    """Train, and leave what a job leaves of its profile."""
    world, paths = World.from_environ(), ContainerPaths(base)
    config = dataclasses.replace(
        TrainConfig(), num_workers=workers, batch_size=batch, epochs=epochs, profiler_steps=0, debugger="off",
        profiler_interval_ms=interval_ms,
    )  # fmt: skip
    device = world.device()
    profiler = profile_start.start(config, paths, world, device)
    world.start(device)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    order = loader.Order(steps * batch, config.seed)
    batches = loader.EpochBatches(order, batch, rank=world.rank, processes=world.size)
    training = loader._loader(SlowImages(sleep_ms), batches, workers, False, stamped=profiler.is_on)
    validation = loader._loader(SlowImages(0), [[0, 1]], 0, False, stamped=profiler.is_on)
    counts = [steps * batch // CLASSES] * CLASSES
    profiler.describe(num_workers=workers, batch_size=batch, epochs=epochs, arch="a small convolution")
    trainer = Trainer(
        network, Data(training, batches, validation, counts, {}), lambda images: images.float() / 255, config,
        device=device, precision=Precision("fp32", False, "cpu", "as given"), stop=StopSignal(), checkpoints=None,
        metrics_file=paths.output_data_dir / "metrics.jsonl", world=world, profiler=profiler,
    )  # fmt: skip
    trainer.fit(Debugger())
    profiler.end_training(trainer.steps_done)
    world.close()
    profiler.close()
    if world.is_first and profiler.training_steps >= profile_report.LEAST_STEPS:
        profile_report.write(paths)


def main() -> None:
    """The command line of a test's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    for name, value in (("workers", 0), ("batch", 8), ("steps", 20), ("epochs", 2), ("interval_ms", 500)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--sleep-ms", type=float, default=0.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    train(
        given.base, workers=given.workers, sleep_ms=given.sleep_ms, batch=given.batch, steps=given.steps,
        epochs=given.epochs, interval_ms=given.interval_ms,
    )  # fmt: skip


if __name__ == "__main__":
    main()
