"""All batch transform jobs of a home: begins them, ends them, and takes them up after a restart."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from typing import Any

from kennel.emulator.runners.base import TRANSFORM_LABEL, Runner, RunnerError
from kennel.emulator.state.home import Home
from kennel.emulator.state.store import Store
from kennel.emulator.threads.job_threads import JobThreads
from kennel.emulator.threads.loop_thread import LoopThread
from kennel.emulator.transform.job import ENDED, KIND, TransformJob, TransformTools
from kennel.emulator.transform.settings import transform_refusals


class TransformJobs:
    """Each job that has not ended lives in a thread; one event loop has the connections of all."""

    def __init__(self, store: Store, home: Home, runner: Runner, region: str) -> None:
        """Jobs are the documents of kind "transform-job" in `store`."""
        self._loop = LoopThread("transform-connections")
        self._threads = JobThreads("transform job", lambda name, leaving: TransformJob(name, self._tools, leaving))
        self._tools = TransformTools(store.patient(self._threads.leaving), home, runner, region, self._loop)

    def refusals(self, request: Mapping[str, Any]) -> list[str]:
        """Why a request that AWS might accept cannot be done here, or would fail anyway; empty when it can."""
        return transform_refusals(request)

    def start(self, name: str) -> None:
        """Begin, or go on with, a job whose document is stored. Returns at once."""
        self._threads.start(name)

    def stop(self, name: str) -> None:
        """The document says Stopping: let go of what is under way."""
        self._threads.wake(name)

    def recover(self) -> None:
        """Go on with every job that has not ended, and end what runs for no job."""
        found = self._tools.store.all(KIND)
        unfinished = {one["TransformJobName"] for one in found if one["TransformJobStatus"] not in ENDED}
        with contextlib.suppress(RunnerError):  # no engine now; each job will say so
            for handle, name in self._tools.runner.find(TRANSFORM_LABEL).items():
                if name not in unfinished:
                    self._tools.runner.remove(handle)
        for one in found:
            name = one["TransformJobName"]
            if name in unfinished:
                self.start(name)
            else:
                shutil.rmtree(self._tools.home.transform_dir(name), ignore_errors=True)  # the end was cut short

    def close(self, timeout_s: float = 10) -> None:
        """End the containers; the next server goes on with the objects that are not done."""
        self._threads.close(timeout_s)
        self._loop.close()
