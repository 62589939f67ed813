"""The rows of the table that `python -m bench.train` prints; what they mean stands there."""

from __future__ import annotations

import functools
import logging
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.jobs import IN_MEMORY, KENNEL, Jobs, Training
from bench.process import watch

_LOG = logging.getLogger(__name__)
_MIB = 2**20
_SMALL = ("--crop-px", "96", "--resize-px", "96", "--precision", "fp32", "--channels-last", "off")
_UNOBSERVED = ("--debugger", "off", "--profiler", "off")
# A phase ends with the line that matches; a line that is not there leaves its time to the next phase.
_PHASES = {
    "scan of the images": r"^(Channel|Validation: )",
    "weights": r"^(Weights|Training \d+ of)",
    "precision measurement": r"^Precision: ",
    "loaders": r"^(Loader|Decoded images): ",
    "debugger": r"^Debugger: ",
}


@dataclass(frozen=True)
class Row:
    """A measurement of the table."""

    name: str
    what: str
    target: str
    values: tuple[float, ...] = ()  # one a round
    unit: str = "x"
    detail: str = ""
    others: float = 0.0  # largest share of the processors that other programs had

    def markdown(self) -> str:
        """Median, range and number of the values."""
        if not self.values:
            return f"| {self.name} | {self.what} | not available | | | | {self.target} | {self.detail} |"
        middle = f"{statistics.median(self.values):.3g} {self.unit}"
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}"
        measured = f"{middle} | {spread} | {len(self.values)} | {self.others:.0%}"
        return f"| {self.name} | {self.what} | {measured} | {self.target} | {self.detail} |"


def show(head: dict[str, str], rows: list[Row]) -> None:
    """Print the header and the table."""
    print("\n".join(f"- {name}: {text}" for name, text in head.items()))
    print(
        "\n| measurement | what | median | range | n | others | target | numbers |\n|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(row.markdown() for row in rows))


class Bench:
    """The measurements; trainings that several rows need are run once."""

    def __init__(self, jobs: Jobs, rounds: int, names: Sequence[str]) -> None:
        self._jobs, self._rounds, self._names = jobs, rounds, names

    @functools.cached_property
    def precision(self) -> tuple[str, ...]:
        """Flags for the arithmetic that the trainer chooses here; fixed for all rows but `plain-script`."""
        return self._jobs.kennel(*_UNOBSERVED, epochs=1).precision

    @functools.cached_property
    def rounds(self) -> dict[str, list[Training]]:
        """Every training that a selected ratio needs, once a round."""
        fixed = functools.partial(self._jobs.kennel, *self.precision)
        runs: dict[str, Callable[[], Training]] = {
            "in memory": functools.partial(fixed, *_UNOBSERVED, module=IN_MEMORY),
            "trainer": functools.partial(fixed, *_UNOBSERVED),
            "debugger": functools.partial(fixed, "--profiler", "off"),
            "observed": fixed,
            "defaults": functools.partial(self._jobs.kennel, *_UNOBSERVED),
            "plain": self._jobs.plain,
        }
        needed = {run for name in self._names if name in _RATIOS for run in _RATIOS[name][:2]}
        if {"disk", "operators"} & set(self._names):
            needed.add("observed")
        found: dict[str, list[Training]] = {run: [] for run in runs if run in needed}
        for number in range(self._rounds):
            for run in list(found) if number % 2 == 0 else reversed(list(found)):
                found[run].append(runs[run]())
                _LOG.info("round %d/%d %s: %s", number + 1, self._rounds, run, _rates(found[run][-1]))
        return found

    def ratio(self, name: str) -> Row:
        """images/s of one training over another's, round by round."""
        over, under, what, target = _RATIOS[name]
        pairs = list(zip(self.rounds[over], self.rounds[under], strict=True))
        rates = " / ".join(f"{statistics.median(t.rate for t in self.rounds[run]):.1f}" for run in (over, under))
        first = " / ".join(f"{statistics.median(t.rates[0] for t in self.rounds[run]):.1f}" for run in (over, under))
        detail = f"images/s: {rates}; first epoch {first}"
        others = most_others(training for pair in pairs for training in pair)
        return Row(name, what, target, tuple(one.rate / other.rate for one, other in pairs), "x", detail, others)

    def head_only(self) -> Row:
        """Seconds of an epoch that computes the features again over one that has them."""
        what, target = "seconds of an epoch, train_layers=head: features computed / kept", ">= 20"
        if "`feature_views`" not in _hyperparameters():
            return Row("head-only", what, target, detail="this revision has no hyperparameter feature_views")
        run = functools.partial(self._jobs.kennel, *self.precision, *_UNOBSERVED, "--train-layers", "head")
        pairs = []
        for _ in range(self._rounds):
            pairs.append((run("--feature-views", "0", epochs=3), run(epochs=20)))
            _LOG.info("head-only: %.3g / %.3g s an epoch", pairs[-1][0].epoch_s, pairs[-1][1].epoch_s)
        medians = " / ".join(
            f"{statistics.median(t.epoch_s for t in column):.3g}" for column in zip(*pairs, strict=True)
        )
        ratios = tuple(computed.epoch_s / kept.epoch_s for computed, kept in pairs)
        others = most_others(training for pair in pairs for training in pair)
        return Row("head-only", what, target, ratios, "x", f"s an epoch: {medians}", others)

    def peak_memory(self) -> Row:
        """Peak memory of the trainer's process tree over the plain script's."""
        kennel, plain = self._jobs.kennel(memory=True, reports=True), self._jobs.plain(memory=True)
        what = "peak memory (PSS) of all processes: trainer at its defaults with its reports / plain script"
        peaks = kennel.seen.peak_bytes / _MIB, plain.seen.peak_bytes / _MIB
        if not min(peaks):
            return Row("peak-memory", what, "", detail="needs Linux's /proc/<pid>/smaps_rollup")
        detail = f"MiB: {peaks[0]:.0f} / {peaks[1]:.0f}"
        return Row("peak-memory", what, "", (peaks[0] / peaks[1],), "x", detail, most_others((kennel, plain)))

    def observed_cpu(self) -> Row:
        """Processor seconds of epochs with the default debugger and profiler over those without, beginning and end left
        out: the difference between a longer and a shorter training. Other programs change it little.
        """
        short, long = 2, 5
        values = []
        for _ in range(self._rounds):
            spent = [
                self._jobs.kennel(*_SMALL, *flags, epochs=epochs).seen.cpu_s
                for flags in ((), _UNOBSERVED)
                for epochs in (long, short)
            ]
            values.append((spent[0] - spent[1]) / (spent[2] - spent[3]))
            _LOG.info("observed-cpu: %s s", ", ".join(f"{seconds:.1f}" for seconds in spent))
        what = "processor time of an epoch at 96 px: default debugger and profiler / both off"
        return Row("observed-cpu", what, "<= 1.03", tuple(values), "x", f"epochs {short + 1} to {long}")

    def disk(self) -> Row:
        """What debugger and profiler write, in parts of what they may: 0.2 MB a step."""
        runs = self.rounds["observed"]
        values = tuple(run.profile.written_bytes / 1e6 / run.profile.steps for run in runs)
        what = "MB a step on disk: tensors, spans, system metrics and operators, at defaults"
        detail = f"{runs[0].profile.steps} steps, the operators of {runs[0].profile.window} of them"
        return Row("disk", what, "<= 0.2", values, "MB", detail, most_others(runs))

    def operators(self) -> Row:
        """Seconds of a step in the window of torch.profiler over those after it."""
        runs = self.rounds["observed"]
        values = tuple(run.profile.step_s(inside=True) / run.profile.step_s(inside=False) for run in runs)
        what = "median seconds of a step: in torch.profiler's window / after it"
        steps = " / ".join(f"{statistics.median(r.profile.step_s(inside=i) for r in runs):.3g}" for i in (True, False))
        return Row("operators", what, "", values, "x", f"s a step: {steps}", most_others(runs))

    def start_up(self) -> Row:
        """Seconds from the start of the process to the end of the first optimizer step, at the trainer's defaults."""
        runs = [(_import_s(), self._jobs.kennel(epochs=1)) for _ in range(self._rounds)]
        phases = [start_up_phases(run, imports_s) for imports_s, run in runs]
        medians = {name: statistics.median(phase.get(name, 0.0) for phase in phases) for name in phases[0]}
        detail = ", ".join(f"{name} {seconds:.2f}" for name, seconds in medians.items())
        totals = tuple(sum(phase.values()) for phase in phases)
        what = "seconds from process start to the end of the first step, at defaults"
        return Row("start-up", what, "", totals, "s", detail, most_others(run for _, run in runs))

    def row(self, name: str) -> Row:
        """Measure one row."""
        if name in _RATIOS:
            return self.ratio(name)
        own = {
            "head-only": self.head_only,
            "observed-cpu": self.observed_cpu,
            "disk": self.disk,
            "operators": self.operators,
            "peak-memory": self.peak_memory,
            "start-up": self.start_up,
        }
        return own[name]()


# Row: numerator, denominator, what it is, target.
_RATIOS = {
    "fed-from-memory": (
        "trainer", "in memory", "images/s: the trainer / the trainer over batches in memory", ">= 0.95, goal 0.98",
    ),
    "plain-script": (
        "defaults", "plain", "images/s: the trainer at its defaults, unobserved / bench/plain_script.py",
        ">= 1.5 on a CPU (goal 2), 3 on a GPU",
    ),
    "smdebug": ("debugger", "trainer", "images/s: default debugger / debugger=off", ">= 0.97, goal 0.98"),
    "observed": ("observed", "trainer", "images/s: default debugger and profiler / both off", ">= 0.97"),
}  # fmt: skip
NAMES = (
    "fed-from-memory", "plain-script", "head-only", "smdebug", "observed", "observed-cpu", "disk", "operators",
    "peak-memory", "start-up",
)  # fmt: skip


def start_up_phases(run: Training, imports_s: float) -> dict[str, float]:
    """Seconds of each phase by its last log line; the trainer shows no line between its imports and the scan's end.

    Args:
        run: a training whose stderr was a terminal.
        imports_s: seconds of a process that only imports the trainer; taken off the first phase.
    """
    first_step = run.seen.first_step_s
    if first_step is None:
        raise RuntimeError("The trainer drew no progress line, so its first step was not seen.")
    ends = {name: [s for s in run.seen.seconds_of(line) if s < first_step] for name, line in _PHASES.items()}
    phases, before = {"imports": imports_s}, imports_s
    for end, name in sorted((seconds[-1], name) for name, seconds in ends.items() if seconds):
        phases[name], before = end - before, end
    return {**phases, "first batch and step": first_step - before}


def most_others(trainings: Iterable[Training]) -> float:
    """The largest share of the processors that other programs had during one of them."""
    return max(training.seen.others for training in trainings)


def _import_s() -> float:
    return watch([sys.executable, "-c", f"import {KENNEL}.train, time; print()"]).seconds_of("^$")[0]


def _hyperparameters() -> str:
    command = [sys.executable, "-m", KENNEL, "hyperparameters"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _rates(training: Training) -> str:
    rates = " ".join(f"{rate:.1f}" for rate in training.rates)
    return f"{rates} images/s by epoch, others had {training.seen.others:.0%} of the processors"
