"""The workers: threads of one computing thread each, and a bounded queue before them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from serving.errors import RequestError

RETRY_AFTER_S = 1
P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool:
    """Runs one job a worker at a time. Decoding and the network release the interpreter lock, so threads are enough.

    `admit` belongs to the event loop's thread alone, which is why its count needs no lock.
    """

    def __init__(self, workers: int, queue_size: int) -> None:
        self.slots = workers + queue_size
        self.admitted = 0
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="worker", initializer=_compute_on_one_thread)

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a slot for one request, from before its body is read: the slots bound the memory of bodies, too.

        Raises:
            RequestError: 503, every slot is taken.
        """
        if self.admitted >= self.slots:
            raise RequestError(
                503,
                "queue_full",
                f"All {self.slots} places for requests are taken. Try again after {RETRY_AFTER_S} s.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    def submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a job; cancelling its future takes it out of the queue as long as no worker has it."""
        return self._executor.submit(job, *args, **kwargs)

    def close(self) -> None:
        """Take no more jobs and drop the queued ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _compute_on_one_thread() -> None:
    import torch  # takes seconds, in which the front already answers /ping

    torch.set_num_threads(1)  # holds for the calling thread; N workers of 2 threads each spin against one another
