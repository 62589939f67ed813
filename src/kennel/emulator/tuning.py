"""All hyperparameter tuning jobs of a home: begins them, ends them, and goes on with them after a restart."""

from __future__ import annotations

import logging
import threading
import time

from kennel.emulator import tuning_shared
from kennel.emulator.home import Home
from kennel.emulator.job_status import KIND as TRAINING_KIND
from kennel.emulator.operations.context import Jobs
from kennel.emulator.store import Store
from kennel.emulator.tuning_job import TuningJob, TuningTools
from kennel.emulator.tuning_searcher import Searcher
from kennel.emulator.tuning_status import ENDED, KIND

_LOG = logging.getLogger(__name__)
_KEEP_S = 60.0  # the search, after the last tuning job


class TuningJobs:
    """A thread for each tuning job that has not ended, woken by every change of one of its training jobs."""

    def __init__(self, store: Store, home: Home, jobs: Jobs, region: str) -> None:
        """Tuning jobs are the documents of kind "hyper-parameter-tuning-job" in `store`; `jobs` runs the trials."""
        self._searcher = Searcher(home.path / "search.log")
        self._tools = TuningTools(store, home, jobs, self._searcher, region, self._own)
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[TuningJob, threading.Thread]] = {}
        self._owners: dict[str, TuningJob] = {}
        store.listen(TRAINING_KIND, self._changed)

    def _own(self, trial: str, job: TuningJob) -> None:
        self._owners[trial] = job

    def _changed(self, trial: str) -> None:
        owner = self._owners.get(trial)
        if owner:
            owner.wake()

    def start(self, name: str) -> None:
        """Begin, or go on with, a tuning job whose document is stored. Returns at once."""
        with self._lock:
            if self._leaving.is_set() or name in self._jobs:
                return
            job = TuningJob(name, self._tools, self._leaving)
            thread = threading.Thread(target=self._run, args=(job,), daemon=True, name=f"tuning-{name}")
            self._jobs[name] = job, thread
            thread.start()

    def _run(self, job: TuningJob) -> None:
        try:
            job.run()
        except Exception:
            _LOG.exception("Tuning job %s failed by a fault of the emulator", job.name)
        finally:
            if job.has_ended():
                tuning_shared.remove(self._tools.home, job.name)
            with self._lock:
                self._jobs.pop(job.name, None)
                self._owners = {trial: owner for trial, owner in self._owners.items() if owner is not job}
                idle = not self._jobs
            if idle and not self._leaving.is_set():
                timer = threading.Timer(_KEEP_S, self._close_idle)
                timer.daemon = True
                timer.start()

    def _close_idle(self) -> None:
        """The search takes half a gigabyte where torch is loaded, and some seconds to start there."""
        with self._lock:
            idle = not self._jobs
        if idle:
            self._searcher.close()

    def stop(self, name: str) -> None:
        """The document says Stopping: end the trials."""
        with self._lock:
            found = self._jobs.get(name)
        if found:
            found[0].wake()
        else:  # it ended meanwhile, or nobody looks after it
            self.start(name)

    def recover(self) -> None:
        """Go on with every tuning job that has not ended."""
        documents = self._tools.store.all(KIND)
        going_on = [
            one["HyperParameterTuningJobName"] for one in documents if one["HyperParameterTuningJobStatus"] not in ENDED
        ]
        tuning_shared.remove_others(self._tools.home, going_on)
        for name in going_on:
            self.start(name)

    def close(self, timeout_s: float = 10) -> None:
        """Leave all trials running; the next server goes on."""
        self._leaving.set()
        with self._lock:
            running = list(self._jobs.values())
        for job, _ in running:
            job.wake()
        self._searcher.leave()
        deadline = time.monotonic() + timeout_s
        for _, thread in running:
            thread.join(max(0.0, deadline - time.monotonic()))
