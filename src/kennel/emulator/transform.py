"""All batch transform jobs of a home: begins them, ends them, and takes them up after a restart."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from kennel.emulator.home import Home
from kennel.emulator.runners.base import TRANSFORM_LABEL, Runner, RunnerError
from kennel.emulator.store import Store
from kennel.emulator.transform_job import ENDED, KIND, TransformJob, TransformTools
from kennel.emulator.transform_settings import transform_refusals

_LOG = logging.getLogger(__name__)


class TransformJobs:
    """A thread for each job that has not ended."""

    def __init__(self, store: Store, home: Home, runner: Runner, region: str) -> None:
        """Jobs are the documents of kind "transform-job" in `store`."""
        self._tools = TransformTools(store, home, runner, region)
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[TransformJob, threading.Thread]] = {}

    def refusals(self, request: Mapping[str, Any]) -> list[str]:
        """Why a request that AWS might accept cannot be done here, or would fail anyway; empty when it can."""
        return transform_refusals(request)

    def start(self, name: str) -> None:
        """Begin, or go on with, a job whose document is stored. Returns at once."""
        with self._lock:
            if self._leaving.is_set() or name in self._jobs:
                return
            job = TransformJob(name, self._tools, self._leaving)
            thread = threading.Thread(target=self._run, args=(job,), daemon=True, name=f"transform-{name}")
            self._jobs[name] = job, thread
            thread.start()

    def _run(self, job: TransformJob) -> None:
        try:
            job.run()
        except Exception:  # the job's document has it already; a thread has nobody above who would log it
            _LOG.exception("Transform job %s failed by a fault of the emulator", job.name)
        finally:
            with self._lock:
                self._jobs.pop(job.name, None)

    def stop(self, name: str) -> None:
        """The document says Stopping: let go of what is under way."""
        with self._lock:
            found = self._jobs.get(name)
        if found:
            found[0].wake()
        else:  # nobody looks after it
            self.start(name)

    def recover(self) -> None:
        """Go on with every job that has not ended, and end what runs for no job."""
        found = self._tools.store.all(KIND)
        unfinished = {one["TransformJobName"] for one in found if one["TransformJobStatus"] not in ENDED}
        with contextlib.suppress(RunnerError):  # no engine now; each job will say so
            for handle, name in self._tools.runner.find(TRANSFORM_LABEL).items():
                if name not in unfinished:
                    self._tools.runner.remove(handle)
        for name in sorted(unfinished):
            self.start(name)

    def close(self, timeout_s: float = 10) -> None:
        """End the containers; the next server goes on with the objects that are not done."""
        self._leaving.set()
        with self._lock:
            running = list(self._jobs.values())
        for job, _ in running:
            job.wake()
        deadline = time.monotonic() + timeout_s
        for _, thread in running:
            thread.join(max(0.0, deadline - time.monotonic()))
