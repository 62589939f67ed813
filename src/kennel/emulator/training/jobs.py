"""All training jobs of a home: begins them, ends them, and finds them again after a restart."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from typing import Any

from kennel.emulator.documents.training import ENDED, KIND
from kennel.emulator.measuring.metric_log import metric_refusals
from kennel.emulator.rules.jobs import Rules
from kennel.emulator.rules.requests import rule_refusals
from kennel.emulator.runners.base import JOB_LABEL, Runner, RunnerError
from kennel.emulator.runners.process import ProcessRunner
from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import TRAINING_LOGS, WARNING_LOGS
from kennel.emulator.state.shortages import LeavingError
from kennel.emulator.state.store import MissingError, Store
from kennel.emulator.threads.job_threads import JobThreads
from kennel.emulator.training import warm_pool
from kennel.emulator.training.channels import channel_refusals, read_channels
from kennel.emulator.training.config_files import read_hosts
from kennel.emulator.training.job import STOP_GRACE_S, Tools, TrainingJob
from kennel.emulator.training.outputs import output_refusals
from kennel.emulator.training.standbys import Standbys
from kennel.storage import StorageError

_WAIT_WITHOUT_SPOT = (
    "StoppingCondition.MaxWaitTimeInSeconds is for managed spot jobs: set EnableManagedSpotTraining, or leave it out."
)


class TrainingJobs:
    """Each job that has not ended lives in a thread."""

    def __init__(
        self, store: Store, home: Home, runner: Runner, region: str, *, stop_grace_s: float = STOP_GRACE_S
    ) -> None:
        """Jobs are the documents of kind "training-job" in `store`; `stop_grace_s` lies between SIGTERM and SIGKILL."""
        feeders = (
            runner if isinstance(runner, ProcessRunner) else ProcessRunner(home.path / "feeders", home.images_file)
        )
        self._threads = JobThreads(
            "training job",
            lambda name, leaving: TrainingJob(name, self._tools, leaving),
            lambda job: self._expire_pool_later(job.name),
        )
        patient = store.patient(self._threads.leaving)
        standbys = Standbys(home.path / "standby", runner, self._threads.timers)
        self._tools = Tools(patient, home, runner, feeders, standbys, region, stop_grace_s)
        self._rules = Rules(store, home, feeders, region, self.stop)

    def refusals(self, request: Mapping[str, Any]) -> list[str]:
        """Why a request that AWS might accept cannot be done here, or would fail anyway; empty when it can."""
        try:
            channels = read_channels(request)
        except StorageError as error:
            return [str(error)]
        hosts = read_hosts(request)
        found = [*channel_refusals(channels, tuple(dict.fromkeys(host.group for host in hosts)))]
        found += [
            *metric_refusals(request),
            *output_refusals(request),
            *rule_refusals(request),
            *_spot_refusals(request),
        ]
        isolated = bool(request.get("EnableNetworkIsolation"))
        runner_says = self._tools.runner.refusal(len(hosts), isolated=isolated)
        return found + ([runner_says] if runner_says else [])

    def start(self, name: str) -> None:
        """Begin the life of a job whose document is stored. Returns at once."""
        self._threads.start(name)
        self._rules.start(name)

    def _expire_pool_later(self, name: str) -> None:
        """A pool ends by itself; one whose server ended before that is ended when the next one starts."""
        with contextlib.suppress(MissingError):
            seconds = warm_pool.keep_alive_s(self._tools.store.get(KIND, name))
            if seconds and not self._threads.is_closing:
                self._threads.timers.after(seconds + 0.1, self._expire_pools)

    def _expire_pools(self) -> None:
        with contextlib.suppress(LeavingError):
            warm_pool.expire(self._tools.store)

    def stop(self, name: str) -> None:
        """The document says Stopping: look at it now."""
        self._threads.wake(name)

    def interrupt(self, name: str) -> None:
        """Take the spot instances of a job away; it starts again from its checkpoints."""
        folder = self._tools.home.job_dir(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "interrupt").touch()

    def delete(self, name: str) -> None:
        """Remove what is kept of a job that has ended, but its document and what it uploaded."""
        self.wait(name, timeout_s=10)
        self._rules.delete(name)
        self._tools.standbys.end(name)
        shutil.rmtree(self._tools.home.job_dir(name), ignore_errors=True)
        self._tools.home.logs.delete(TRAINING_LOGS, f"{name}/")
        self._tools.home.logs.delete(WARNING_LOGS, f"training-job/{name}")

    def end_pool(self, pool: str) -> None:
        """No further job shares the pool: end what waits in it."""
        self._tools.standbys.end(pool)

    def wait(self, name: str, timeout_s: float) -> None:
        """Until nobody looks after the job any more.

        Raises:
            TimeoutError: it takes longer.
        """
        self._threads.wait(name, timeout_s)

    def recover(self) -> None:
        """Take up every job that has not ended, and end what runs without one."""
        names = {document["TrainingJobName"]: document for document in self._tools.store.all(KIND)}
        unfinished = {name for name, document in names.items() if document["TrainingJobStatus"] not in ENDED}
        for runner in (self._tools.runner, self._tools.feeders):
            with contextlib.suppress(RunnerError):  # no engine now; each job will say so
                for handle, name in runner.find(JOB_LABEL).items():
                    if name not in unfinished:
                        runner.remove(handle)
        warm_pool.expire(self._tools.store)
        self._rules.recover(names)
        self._tools.standbys.recover()
        for name, document in names.items():
            if name in unfinished:
                self.start(name)
                continue
            shutil.rmtree(self._tools.home.job_dir(name) / "hosts", ignore_errors=True)  # the end was cut short
            if (document.get("WarmPoolStatus") or {}).get("Status") == "Available":
                self._expire_pool_later(name)

    def close(self, timeout_s: float = 10) -> None:
        """Leave all jobs running; the next server finds them again."""
        self._threads.leave()
        self._rules.close()
        self._threads.close(timeout_s)


def _spot_refusals(request: Mapping[str, Any]) -> list[str]:
    """Sentences about a managed spot job's times, as the API reference of StoppingCondition has them."""
    limits = request.get("StoppingCondition") or {}
    wait, runtime = limits.get("MaxWaitTimeInSeconds"), limits.get("MaxRuntimeInSeconds", 86_400)
    if not request.get("EnableManagedSpotTraining"):
        return [_WAIT_WITHOUT_SPOT] if wait else []
    if wait is None:
        return ["EnableManagedSpotTraining needs StoppingCondition.MaxWaitTimeInSeconds, MaxRuntimeInSeconds or more."]
    if wait < runtime:
        return [f"MaxWaitTimeInSeconds ({wait}) must be MaxRuntimeInSeconds ({runtime}) or more."]
    return []
