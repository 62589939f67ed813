"""The workers: threads of one computing thread each, which share one queue."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class _Job:
    run: Callable[[Sequence[Any]], Sequence[Any]]  # one result an item
    item: Any
    kind: Hashable = None  # jobs of one kind may run together; those of None run alone
    together: int = 1
    done: Future[Any] = field(default_factory=Future)


class WorkerPool:
    """Decoding and the network release the interpreter lock, so threads are enough.

    A worker that comes free takes its share of what waits, up to a limit, and runs it as one: an idle server answers
    each request by itself, a busy one spends less on each. Nobody waits for a batch to fill.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._waiting: deque[_Job] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._began: dict[int, float] = {}  # thread -> when it took its job
        self._threads = [threading.Thread(target=self._work, name=f"worker-{number}") for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a job; cancelling its future takes it out of the queue as long as no worker has it."""
        return self._add(_Job(lambda _: [job(*args, **kwargs)], None))

    def submit_joint(
        self, run: Callable[[Sequence[Item]], Sequence[T]], item: Item, *, kind: Hashable, together: int
    ) -> Future[T]:
        """Queue an item that may run beside others.

        Args:
            run: makes one result of each item. When it raises, every item of its batch runs once more, alone.
            item: this one.
            kind: items with an equal one have the same `run`.
            together: how many items of this kind run at once at most.
        """
        return self._add(_Job(run, item, kind, together))

    def _add(self, job: _Job) -> Future[Any]:
        with self._change:
            if self._closed:
                job.done.cancel()
            else:
                self._waiting.append(job)
                self._change.notify()
        return job.done

    def longest_s(self) -> float:
        """How long the job that runs longest has been running; 0 when none does."""
        return max((time.monotonic() - began for began in list(self._began.values())), default=0.0)

    def close(self) -> None:
        """Take no more jobs and drop the queued ones."""
        with self._change:
            self._closed = True
            for job in self._waiting:
                job.done.cancel()
            self._waiting.clear()
            self._change.notify_all()

    def _work(self) -> None:
        import torch  # takes seconds, in which the front already answers /ping

        torch.set_num_threads(1)  # holds for the calling thread; N workers of 2 threads each spin against one another
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Run the next job, or what goes together; False at the end. Nothing of it outlives the call."""
        jobs = self._take()
        is_over = not jobs
        own = threading.get_ident()
        self._began[own] = time.monotonic()
        jobs[:] = [job for job in jobs if job.done.set_running_or_notify_cancel()]
        try:
            _run(jobs)
        finally:
            del self._began[own]
        return not is_over

    def _take(self) -> list[_Job]:
        """The oldest job, and beside it those of its kind that are this worker's share of the queue."""
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            first = self._waiting[0]
            share = min(first.together, -(-len(self._waiting) // self.workers))
            jobs = [first]
            if first.kind is not None:
                jobs = [job for job in self._waiting if job.kind == first.kind][:share]
            for job in jobs:
                self._waiting.remove(job)
            return jobs


def _run(jobs: list[_Job]) -> None:
    """Run what goes together, and empty the list of it.

    An error holds the frames that it went through. A job in one of them would close a circle, and with it stay all that
    the job held, a model that failed to load say, until the garbage collector finds it.
    """
    if not jobs:
        return
    try:
        results = jobs[0].run([job.item for job in jobs])
        if len(results) != len(jobs):
            raise RuntimeError(f"A job of {len(jobs)} items gave {len(results)} results.")
    except BaseException as error:
        if len(jobs) == 1:
            jobs.pop().done.set_exception(error)
        else:
            while jobs:  # the fault is one's alone
                _run([jobs.pop(0)])
        return
    for result in results:
        jobs.pop(0).done.set_result(result)
