"""One model inside multi-model-server: its processes, and the requests that are there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from serving import logs


@dataclass(eq=False)
class _Inside:
    began: float | None  # monotonic seconds; None while it waits for a worker


class MmsModel:
    """A model that MMS's workers serve."""

    def __init__(self, identity: str, name: str, folder: Path, workers: int) -> None:
        """Nothing is loaded yet.

        Args:
            identity: its name inside MMS, never used twice. Names that clients give may hold anything.
            name: its name outside.
            folder: its private folder, which is all that MMS gets to see of it: MMS puts a model's folder on its
                workers' PYTHONPATH and obeys a manifest in it, so an artifact given to it could bring code.
            workers: processes.
        """
        self.identity, self.name, self.folder, self.workers = identity, name, folder, workers
        # First come, first served; what is inside cannot be taken back, so no more than are computed.
        self.places = asyncio.Semaphore(workers)
        self.processes: list[psutil.Process] = []  # the listener, then its workers, as they were last seen
        self._short_since: float | None = None
        self._inside: list[_Inside] = []  # in the order in which MMS hands them to its workers

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request from the moment at which a worker can have it."""
        one = _Inside(time.monotonic() if len(self._inside) < self.workers else None)
        self._inside.append(one)
        try:
            yield
        finally:
            self._inside.remove(one)
            for next_one in self._inside[: self.workers]:
                next_one.began = next_one.began or time.monotonic()

    def longest_s(self) -> float:
        """How long the request that a worker has had for longest has been there; 0 when there is none."""
        return max((time.monotonic() - one.began for one in self._inside if one.began), default=0.0)

    def look(self, listener: int | None = None) -> bool:
        """See which processes there are; whether the listener is one of them. It reads all of /proc, so not in a hurry.

        Args:
            listener: its process ID, when it is new.
        """
        try:
            root = psutil.Process(listener) if listener is not None else self.processes[0]
            self.processes = [root, *filter(_alive, root.children())]
            found = _alive(root)
        except psutil.NoSuchProcess:
            found = False
        missing = not found or len(self.processes) <= self.workers
        if missing != bool(self._short_since):
            logs.event("workers_missing" if missing else "workers_back", model_name=self.name)
        self._short_since = (self._short_since or time.monotonic()) if missing else None
        return found

    def short_s(self) -> float:
        """How long workers have been missing; 0 while there are enough."""
        return time.monotonic() - self._short_since if self._short_since else 0.0

    def kill(self) -> None:
        """End what is left of its processes."""
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
