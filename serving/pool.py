"""The workers: threads of one computing thread each, which share one queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool:
    """Runs one job a worker at a time. Decoding and the network release the interpreter lock, so threads are enough."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._began: dict[int, float] = {}  # thread -> when it took its job
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="worker", initializer=_compute_on_one_thread)

    def submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a job; cancelling its future takes it out of the queue as long as no worker has it."""

        def work() -> T:
            own = threading.get_ident()
            self._began[own] = time.monotonic()
            try:
                return job(*args, **kwargs)
            finally:
                del self._began[own]

        return self._executor.submit(work)

    def longest_s(self) -> float:
        """How long the job that runs longest has been running; 0 when none does."""
        return max((time.monotonic() - began for began in list(self._began.values())), default=0.0)

    def close(self) -> None:
        """Take no more jobs and drop the queued ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _compute_on_one_thread() -> None:
    import torch  # takes seconds, in which the front already answers /ping

    torch.set_num_threads(1)  # holds for the calling thread; N workers of 2 threads each spin against one another
