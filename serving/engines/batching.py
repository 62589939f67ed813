"""Dynamic batching: one forward pass for whatever waits, because a GPU is as fast for sixteen images as for one."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future

import torch

from serving.engines.base import Engine

_Job = tuple[torch.Tensor, Future[torch.Tensor]]


class Batching(Engine):
    """An engine in front of another: callers of many threads wait while one thread computes for all of them.

    Nothing is held back to fill a batch. While one batch is computed the next one gathers, so a lone request waits for
    nobody and a busy server finds full batches by itself.
    """

    gathers = True

    def __init__(self, engine: Engine, max_images: int) -> None:
        self.name = f"{engine.name}, batches of up to {max_images}"
        self._engine, self._max_images = engine, max_images
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._carried: _Job | None = None
        threading.Thread(target=self._compute, name="batching", daemon=True).start()

    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Engine`; blocks until the batch that holds these images is done."""
        done: Future[torch.Tensor] = Future()
        self._waiting.put((batch, done))
        return done.result()

    def close(self) -> None:
        """End the computing thread once everyone who waits has an answer."""
        self._waiting.put(None)

    def _compute(self) -> None:
        while jobs := self._gather():
            images = torch.cat([images for images, _ in jobs])
            try:
                answers = self._engine.probabilities(images)
            except Exception as error:
                for _, done in jobs:
                    done.set_exception(error)
                continue
            for (own, done), rows in zip(jobs, torch.split(answers, [len(images) for images, _ in jobs]), strict=True):
                done.set_result(rows[: len(own)])

    def _gather(self) -> list[_Job]:
        """The next job and all that fit beside it; none at the end."""
        first = self._carried or self._waiting.get()
        self._carried = None
        if first is None:
            return []
        jobs, images = [first], len(first[0])
        while images < self._max_images:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._waiting.put(None)
                break
            if images + len(job[0]) > self._max_images:
                self._carried = job
                break
            jobs.append(job)
            images += len(job[0])
        return jobs
