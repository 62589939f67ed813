"""All hyperparameter tuning jobs of a home: begins them, ends them, and goes on with them after a restart."""

from __future__ import annotations

from kennel.emulator.documents.training import KIND as TRAINING_KIND
from kennel.emulator.state.home import Home
from kennel.emulator.state.store import Store
from kennel.emulator.threads.job_threads import JobThreads
from kennel.emulator.training import shared as tuning_shared
from kennel.emulator.training.jobs import TrainingJobs
from kennel.emulator.tuning.job import TuningJob, TuningTools, pool_of
from kennel.emulator.tuning.searcher import Searcher
from kennel.emulator.tuning.status import ENDED, KIND

_KEEP_S = 60.0  # the search, after the last tuning job


class TuningJobs:
    """Each tuning job that has not ended lives in a thread, woken by every change of one of its training jobs."""

    def __init__(self, store: Store, home: Home, jobs: TrainingJobs, region: str) -> None:
        """Tuning jobs are the documents of kind "hyper-parameter-tuning-job" in `store`; `jobs` runs the trials."""
        self._searcher = Searcher(home.path / "search.log")
        self._threads = JobThreads(
            "tuning job", lambda name, leaving: TuningJob(name, self._tools, leaving), self._over
        )
        patient = store.patient(self._threads.leaving)
        self._tools = TuningTools(patient, home, jobs, self._searcher, region, self._own)
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
        self._threads.start(name)

    def _over(self, job: TuningJob) -> None:
        if job.has_ended():
            tuning_shared.remove(self._tools.home, job.name)
            self._tools.jobs.end_pool(pool_of(job.name))
        for trial, owner in list(self._owners.items()):  # other jobs' threads add theirs meanwhile
            if owner is job:
                self._owners.pop(trial, None)
        if not self._threads.is_closing:
            self._threads.timers.after(_KEEP_S, self._close_idle)

    def _close_idle(self) -> None:
        """The search takes half a gigabyte where torch is loaded, and some seconds to start there."""
        if self._threads.is_idle:
            self._searcher.close()

    def stop(self, name: str) -> None:
        """The document says Stopping: end the trials."""
        self._threads.wake(name)

    def delete(self, name: str) -> None:
        """Wait until nobody looks after a tuning job that has ended, so that its name can be used again."""
        self._threads.wait(name, timeout_s=10)

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
        self._threads.leave()
        self._searcher.leave()
        self._threads.close(timeout_s)
