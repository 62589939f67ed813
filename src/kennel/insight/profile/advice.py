"""What to change, in the order of what it saves: each piece names the hyperparameter or flag and what to expect of it.

What is promised is computed from the run's own numbers; where only a bound can be computed it is called `at most`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kennel.insight.profile.measures import usage
from kennel.insight.profile.measures.steps import typical
from kennel.insight.profile.measures.summary import Summary
from kennel.insight.profile.reading import phases, system
from kennel.insight.profile.rules.base import Evidence

_FULL = 85.0  # percent of the CPU
_WORTH = 0.03  # of the run's time; less is not worth a change


@dataclass(frozen=True)
class Advice:
    """One change."""

    topic: str
    rule: str  # the rule that stands for it
    change: str  # as it is written: `num_workers=4`
    reason: str  # the measured numbers
    step_s: float | None  # a step now
    expected_step_s: float | None  # a step after the change
    saves_s: float  # of this run
    at_most: bool = False  # the true saving may be smaller

    @property
    def speedup(self) -> float | None:
        """How many times faster a step is."""
        return self.step_s / self.expected_step_s if self.step_s and self.expected_step_s else None


def advise(evidence: Evidence) -> list[Advice]:
    """Everything that saves at least three percent of the run's time, the largest saving first."""
    summary = evidence.summary
    if summary is None or not summary.steps or summary.duration_s <= 0:
        return []
    found = [
        *_loading(evidence, summary.training_s),
        *_hook(evidence, summary.training_s),
        *_batch_size(evidence, summary.training_s),
        *_balance(evidence, summary.training_s),
        *_neighbours(evidence, summary),
        *_checkpoints(evidence, summary),
        *_precision(evidence),
    ]
    worth = [one for one in found if one.saves_s >= _WORTH * summary.duration_s]
    return sorted(worth, key=lambda one: -one.saves_s)


def _loading(evidence: Evidence, training_s: float) -> Iterator[Advice]:
    loading = evidence.loading
    if loading is None or loading.load_s is None or loading.workers is None or loading.wait_share < _WORTH:
        return
    best = loading.best_workers()
    expected_s = loading.predicted_s(best)
    now = (
        f"Steps wait {1000 * loading.wait_s:.0f} of {1000 * loading.step_s:.0f} ms for data; a batch takes a loader "
        f"{1000 * loading.load_s:.0f} ms, the rest of a step {1000 * loading.compute_s:.0f} ms, and there "
        f"{_count(loading.workers, 'loader process', 'are', 'is')}."
    )
    if best > loading.workers and expected_s < loading.step_s:
        saved = training_s * (1 - expected_s / loading.step_s)
        yield Advice("data loading", "Dataloader", f"num_workers={best}", now, loading.step_s, expected_s, saved)
        return
    saved = training_s * loading.wait_share
    reason = now + f" More than {best} are not advised on {loading.cores} cores: make an image cheaper instead."
    change = "image_cache=auto, smaller photos, or more cores"
    yield Advice("data loading", "Dataloader", change, reason, loading.step_s, loading.compute_s, saved, at_most=True)


def _count(number: int, noun: str, many: str, one: str) -> str:
    if number == 1:
        return f"{one} 1 {noun}"
    return f"{many} {number or 'no'} {noun}es"


def _hook(evidence: Evidence, training_s: float) -> Iterator[Advice]:
    parts = typical(evidence.steps)
    step_s = sum(parts.values())
    hook_s = parts.get(phases.HOOK, 0.0)
    if hook_s:
        reason = f"The debugger's hook takes {1000 * hook_s:.1f} of {1000 * step_s:.1f} ms of a step."
        saved = training_s * hook_s / step_s
        yield Advice("debugger", "StepOutlier", "debugger=off", reason, step_s, step_s - hook_s, saved)


def _batch_size(evidence: Evidence, training_s: float) -> Iterator[Advice]:
    """On a GPU that idles during the steps: larger batches fill it. The bound is a GPU that never idles."""
    run, loading = evidence.run, evidence.loading
    busy, memory = usage.mean(run.samples, system.GPU), usage.mean(run.samples, system.GPU_MEMORY)
    if busy is None or loading is None or not 0 < busy < 70 or loading.wait_share > 0.2:
        return
    batch = run.number("batch_size")
    room = 100 / memory if memory else 1.0
    factor = max(1, min(4, int(room / 1.2)))  # some memory stays free
    if batch is None or factor < 2:
        return
    reason = (
        f"The GPU is busy {busy:.0f} % of the time and its memory is {memory:.0f} % full: there is room for "
        f"{factor} times the batch."
    )
    expected_s = loading.step_s * max(busy / 100, 1 / factor)  # for the same images
    saved = training_s * (1 - expected_s / loading.step_s)
    change = f"batch_size={int(batch * factor)}, and lr with it"
    yield Advice("batch size", "BatchSize", change, reason, loading.step_s, expected_s, saved, at_most=True)


def _balance(evidence: Evidence, training_s: float) -> Iterator[Advice]:
    """Between training processes: all wait for the one that is fed worst."""
    steps = evidence.steps
    waits = (steps.groupby("worker")[phases.DATA].mean() / steps.groupby("worker")["duration_s"].mean()).dropna()
    if len(waits) < 2 or waits.max() - waits.median() < 0.1:
        return
    worst, share = str(waits.idxmax()), float(waits.max() - waits.median())
    step_s = float(steps["duration_s"].mean())
    reason = (
        f"{worst} waits {100 * waits.max():.0f} % of its steps for data, the middle one {100 * waits.median():.0f} %; "
        f"the others wait for it."
    )
    change = f"the same data, cores and num_workers for {worst} as for the others"
    yield Advice(
        "load balance", "LoadBalancing", change, reason, step_s, step_s * (1 - share), training_s * share, at_most=True
    )


def _neighbours(evidence: Evidence, summary: Summary) -> Iterator[Advice]:
    """A machine whose CPU is full while the run has little of it. The bound: the others' share becomes the run's."""
    samples = evidence.run.samples
    every, own = usage.mean(samples, system.CPU), usage.mean(samples, system.CONTAINER_CPU)
    if every is None or own is None or every < _FULL or every - own < _FULL / 2:
        return
    step_s = float(evidence.steps["duration_s"].mean())
    waiting = evidence.loading.wait_share if evidence.loading else 0.0
    share = (1 - waiting) * (every - own) / every
    reason = f"The machine's CPU is {every:.0f} % busy, {own:.0f} % with this run: other programs take the rest."
    yield Advice(
        "neighbours", "StepOutlier", "a machine of its own, or fewer programs beside it", reason, step_s,
        step_s * (1 - share), summary.training_s * share, at_most=True,
    )  # fmt: skip


def _checkpoints(evidence: Evidence, summary: Summary) -> Iterator[Advice]:
    if summary.checkpoint_s:
        minutes = evidence.run.number("checkpoint_minutes")
        reason = f"Checkpoints take {summary.checkpoint_s:.0f} s of {summary.duration_s:.0f} s."
        change = "checkpoint_minutes=60" if minutes is not None and minutes < 60 else "checkpoints=off"
        yield Advice("checkpoints", "StepOutlier", change, reason, None, None, summary.checkpoint_s, at_most=True)


def _precision(evidence: Evidence) -> Iterator[Advice]:
    """What `precision=auto` measured need not be measured again on the same machine."""
    run = evidence.run
    measuring = (run.events["part"] == phases.INITIALIZATION) & (run.events["name"] == "Precision")
    seconds = float(run.events[measuring]["duration_s"].sum())
    told = str(next((one["precision"] for one in run.processes if one.get("precision")), "")).partition(" (")[0]
    if seconds and told:
        arithmetic, _, layout = told.partition(", ")
        change = f"precision={arithmetic} channels_last={'on' if 'channels_last' in layout else 'off'}"
        reason = f"Measuring which arithmetic is fastest took {seconds:.1f} s. On this machine it stays {told}."
        yield Advice("initialisation", "MaxInitializationTime", change, reason, None, None, seconds)
