"""Where the time of a training goes: spans of every step's parts, and a sampler of the machine beside it.

A `Profiler` that is off does nothing: no hook, no event, no file. One that is on appends a few numbers a span and
writes them every two seconds; what that costs is in docs/profiler.md.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, TypeVar

import torch

from kennel.classifier.data.loader import Batch
from kennel.classifier.profiler.cuda_clock import CudaClock
from kennel.classifier.profiler.operators import Operators
from kennel.classifier.profiler.timeline import EVAL, TRAIN, Timeline
from kennel.contract.files import write_json

_LOG = logging.getLogger(__name__)
_MODES = {TRAIN: "TRAIN", EVAL: "EVAL"}
_SAMPLER_END_S = 5.0
T = TypeVar("T")


class Profiler:
    """Measures this process, or nothing where it has no timeline.

    Args:
        timeline: takes the spans.
        operators: records those of a few steps.
        clock: the GPU's, where the network is on one.
        sampler: writes system metrics.
    """

    def __init__(
        self,
        timeline: Timeline | None = None,
        *,
        operators: Operators | None = None,
        clock: CudaClock | None = None,
        sampler: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._timeline, self._operators, self._clock, self._sampler = timeline, operators, clock, sampler
        self._about: dict[str, Any] = {}  # of the step that runs: number and mode
        self._step: tuple[str, int, dict[str, Any]] | None = None
        self._hooks = HookTime()
        self._facts: dict[str, Any] = {}
        self.training_steps = 0  # that were measured

    @property
    def is_on(self) -> bool:
        """Whether anything is measured."""
        return self._timeline is not None

    def span(self, phase: str, name: str = "", **args: Any) -> AbstractContextManager[None]:
        """Around a part of the work.

        Args:
            phase: one of `timeline.PHASES`.
            name: of the event, where it is not the phase's.
            args: what belongs to it.
        """
        if self._timeline is None:
            return nullcontext()
        return _Span(self._timeline, self._clock, phase, name, {**self._about, **args})

    def steps(self, batches: Iterable[Any], mode: str, first: int, epoch: int) -> Iterator[Batch]:
        """The batches, each as a step that ends with `end_step`, or when the next one is asked for.

        Args:
            batches: of a loader that is stamped where this profiler is on, or of an iterator over it.
            mode: `timeline.TRAIN` or `timeline.EVAL`.
            first: number of the first one's step, over all epochs.
            epoch: counted from 1.
        """
        if self._timeline is None:
            yield from batches
            return
        coming, number = self.begin(batches), first
        while True:
            started_ns = time.monotonic_ns()
            batch = next(coming, None)
            if batch is None:
                return
            self._begin_step(mode, number, epoch, started_ns, *batch)
            try:
                yield batch[:2]
            finally:
                self.end_step()
            number += 1

    def begin(self, batches: Iterable[T]) -> Iterator[T]:
        """A pass over a loader; what is an iterator already has begun."""
        if self._timeline is None or isinstance(batches, Iterator):
            return iter(batches)
        workers = getattr(batches, "num_workers", 0)
        name = f"_{'MultiProcessing' if workers else 'SingleProcess'}DataLoaderIter.__init__"  # smdebug looks for these
        pinned = bool(getattr(batches, "pin_memory", False))
        with self.span("DataLoaderIterInitialize", name, num_workers=workers, pin_memory=pinned):
            return iter(batches)

    def _begin_step(self, mode: str, number: int, epoch: int, started_ns: int, *batch: Any) -> None:
        assert self._timeline is not None  # noqa: S101 - asked by `steps`
        self._about = {"step_num": str(number), "mode": _MODES[mode]}
        self._timeline.add(
            "DataLoaderIter", started_ns, time.monotonic_ns(), self._about, name="DataLoaderIter::GetNext"
        )
        self._step = mode, started_ns, {**self._about, "epoch": epoch, "images": len(batch[1])}
        if len(batch) > 2:
            worker, begun_ns, ended_ns = batch[2]
            about = {**self._about, "worker_id": worker, "images": len(batch[1])}
            self._timeline.add("DataLoaderWorker", begun_ns, ended_ns, about, tid=worker)
        if self._clock:
            torch.cuda.reset_peak_memory_stats()
        if self._operators and mode == TRAIN:
            self._operators.begin_step(number)

    def end_step(self) -> None:
        """What follows belongs to no step."""
        if self._timeline is None or self._step is None:
            return
        mode, started_ns, args = self._step
        self.training_steps += mode == TRAIN
        self._step = None
        if self._clock:
            # Not max_memory_allocated: that flattens and sorts all statistics first, every time.
            args["gpu_memory_bytes"] = torch.cuda.memory_stats_as_nested_dict()["allocated_bytes"]["all"]["peak"]
            for name, begun_ns, ended_ns in self._clock.take():
                self._timeline.add("GPU", begun_ns, ended_ns, self._about, name=name)
        self._timeline.add(mode, started_ns, time.monotonic_ns(), args)
        if self._hooks.first_ns:
            parts = {"forward_us": self._hooks.forward_ns // 1000, "backward_us": self._hooks.backward_ns // 1000}
            end_ns = self._hooks.first_ns + self._hooks.forward_ns + self._hooks.backward_ns
            self._timeline.add("Debugger", self._hooks.first_ns, end_ns, {**self._about, **parts})
            self._hooks.clear()
        self._about = {}
        if self._operators and mode == TRAIN:
            self._operators.end_step(int(args["step_num"]))
        self._timeline.flush_when_due()

    def hook(self, function: Callable[..., T], *, backward: bool = False) -> Callable[..., T]:
        """The same function, whose time is the debugger's; itself where nothing is measured."""
        return self._hooks.timed(function, backward=backward) if self.is_on else function

    def describe(self, **facts: Any) -> None:
        """Write what does not change; what was told before stays."""
        if self._timeline is None:
            return
        self._facts |= facts
        path = self._timeline.folder / f"run/{self._timeline.pid}-{self._timeline.node}.json"
        try:
            write_json(path, self._facts)
        except OSError as error:
            _LOG.warning("The profiler cannot write %s: %s.", path, error.strerror)

    def end_training(self, number: int) -> None:
        """No step follows: what was recorded of operators is written."""
        if self._operators is not None:
            with self.span("Finalization", "Operators"):
                self._operators.stop(number)
                self._operators.write({name: self._facts.get(name) for name in ("node", "pid", "device")})

    def close(self) -> None:
        """Finish the files and end the sampler."""
        if self._timeline is not None:
            self.end_step()
            self._timeline.close()
        if self._sampler is not None:
            self._sampler.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._sampler.wait(_SAMPLER_END_S)


class _Span:
    """Times a block; on a GPU also what the block puts into its queue."""

    __slots__ = ("_args", "_began_ns", "_clock", "_name", "_phase", "_timeline")

    def __init__(
        self, timeline: Timeline, clock: CudaClock | None, phase: str, name: str, args: dict[str, Any]
    ) -> None:
        self._timeline, self._clock, self._phase, self._name, self._args = timeline, clock, phase, name, args

    def __enter__(self) -> None:
        if self._clock:
            self._clock.enter(self._phase)
        self._began_ns = time.monotonic_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timeline.add(self._phase, self._began_ns, time.monotonic_ns(), self._args, name=self._name)
        if self._clock:
            self._clock.exit(self._phase)


class HookTime:
    """Nanoseconds that the debugger's hooks took in the step that runs."""

    def __init__(self) -> None:
        self.first_ns = self.forward_ns = self.backward_ns = 0

    def clear(self) -> None:
        """A step begins."""
        self.first_ns = self.forward_ns = self.backward_ns = 0

    def timed(self, function: Callable[..., T], *, backward: bool) -> Callable[..., T]:
        """A function whose time is added up here."""

        def run(*args: Any, **kwargs: Any) -> T:
            started_ns = time.monotonic_ns()
            try:
                return function(*args, **kwargs)
            finally:
                passed_ns = time.monotonic_ns() - started_ns
                self.first_ns = self.first_ns or started_ns
                if backward:
                    self.backward_ns += passed_ns
                else:
                    self.forward_ns += passed_ns

        return run


OFF = Profiler()
