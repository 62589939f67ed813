"""Trainings as a bench runs them: each in a process and a folder of its own, from scratch, over the same photos."""

from __future__ import annotations

import itertools
import json
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.process import Observed, watch

KENNEL, IN_MEMORY, PLAIN = "kennel.classifier", "bench.in_memory", "bench.plain_script"
_STEP = "Step:ModeKeys.TRAIN"
_QUIET = 0.05  # share of the processors that other programs may have
PRECISION_LINE = r"^Precision: (\w+), (channels_last|contiguous)"


@dataclass(frozen=True)
class Profile:
    """What debugger and profiler left of a training."""

    written_bytes: int
    steps_us: tuple[int, ...]  # of each training step
    first: int  # of the window of operators
    window: int

    @classmethod
    def read(cls, output: Path) -> Profile:
        """From a job's `output/data`; empty where both were off."""
        files = [path for name in ("tensors", "profiler") for path in (output / name).rglob("*") if path.is_file()]
        spans: dict[int, int] = {}
        for path in (output / "profiler/framework/pevents").rglob("*.json"):
            for event in json.loads(path.read_text()):
                if event["ph"] == "X" and event["name"] == _STEP:
                    spans[int(event["args"]["step_num"])] = event["dur"]
        steps = tuple(spans[number] for number in sorted(spans))
        runs = [json.loads(path.read_text()) for path in (output / "profiler/run").glob("*.json")]
        first, window = (runs[0]["operators"] if runs else None) or (0, 0)
        return cls(sum(path.stat().st_size for path in files), steps, first, window)

    @property
    def steps(self) -> int:
        """Training steps."""
        return len(self.steps_us)

    def step_s(self, *, inside: bool) -> float:
        """Median seconds of the steps in the window, or of those after it."""
        end = self.first + self.window
        return statistics.median(self.steps_us[self.first : end] if inside else self.steps_us[end:]) / 1e6


@dataclass(frozen=True)
class Training:
    """What a training showed."""

    seen: Observed
    rates: tuple[float, ...]  # training images/s of each epoch, as the program itself counted
    profile: Profile = field(default_factory=lambda: Profile(0, (), 0, 0))  # of Kennel's

    @property
    def rate(self) -> float:
        """Median images/s of the epochs from the second on; the first one starts processes and fills caches."""
        return statistics.median(self.rates[1:])

    @property
    def epoch_s(self) -> float:
        """Mean seconds of an epoch from the second on, validation included, by the arrival of the metric lines."""
        ends = self.seen.seconds_of(r"^epoch=\d+/")
        return (ends[-1] - ends[0]) / (len(ends) - 1)

    @property
    def precision(self) -> tuple[str, ...]:
        """The flags that give another run the arithmetic that this one chose."""
        found = re.search(PRECISION_LINE, self.seen.first(PRECISION_LINE))
        if not found:
            raise RuntimeError("The trainer's log has no line 'Precision: ...'.")
        return ("--precision", found[1], "--channels-last", "on" if found[2] == "channels_last" else "off")


@dataclass(frozen=True)
class Jobs:
    """Starts trainings below one temporary folder."""

    folder: Path
    photos: Path  # holds train/ and validation/
    batch_size: int
    epochs: int
    retries: int = 0  # of a training during which others had more than 5 % of the processors

    def kennel(
        self, *flags: str, module: str = KENNEL, epochs: int = 0, memory: bool = False, reports: bool = False
    ) -> Training:
        """Kennel's trainer in a new job; without `reports` it is told to leave after the last epoch."""
        return self._calmest(lambda: self._kennel(*flags, module=module, epochs=epochs, memory=memory, reports=reports))

    def _kennel(self, *flags: str, module: str, epochs: int, memory: bool, reports: bool) -> Training:
        job = self._new_job()
        epochs = epochs or self.epochs
        command = [sys.executable, "-m", module, "train", "--base-dir", str(job), "--pretrained", "none"]
        command += ["--batch-size", str(self.batch_size), "--epochs", str(epochs), *flags]
        seen = watch(command, memory=memory, enough=None if reports else rf"^epoch={epochs}/")
        lines = (job / "output/data/metrics.jsonl").read_text().splitlines()
        rates = tuple(json.loads(line)["images_per_second"] for line in lines)
        return Training(seen, rates, Profile.read(job / "output/data"))

    def plain(self, *, memory: bool = False) -> Training:
        """The script that most people write."""
        return self._calmest(lambda: self._plain(memory=memory))

    def _plain(self, *, memory: bool) -> Training:
        folders = [str(self.photos / "train"), str(self.photos / "validation")]
        sizes = ["--batch-size", str(self.batch_size), "--epochs", str(self.epochs)]
        seen = watch([sys.executable, "-m", PLAIN, *folders, *sizes], memory=memory)
        return Training(seen, tuple(json.loads(line)["images_per_second"] for _, line in seen.lines))

    def _calmest(self, run: Callable[[], Training]) -> Training:
        """The first training that others did not disturb, or the least disturbed one when `retries` are spent."""
        best = run()
        for _ in range(self.retries):
            if best.seen.others <= _QUIET:
                break
            best = min(best, run(), key=lambda training: training.seen.others)
        return best

    def _new_job(self) -> Path:
        job = next(path for n in itertools.count() if not (path := self.folder / f"job{n}").exists())
        (job / "input/data").mkdir(parents=True)
        for channel in ("train", "validation"):
            (job / "input/data" / channel).symlink_to(self.photos / channel)
        return job
