"""The life of one training job, in a thread of its own.

Every step is written to the store before and after it is taken, so that a new process can take it up anywhere: what was
being prepared is prepared again, what runs is found again by its handle, what was being uploaded is uploaded again.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kennel.contract.paths import ContainerPaths
from kennel.emulator.documents import training as job_status
from kennel.emulator.documents.training import KIND, HostFailure, JobFailure, Outcome, Phase, Stop, life
from kennel.emulator.runners.base import FEEDER_LABEL, HOST_LABEL, JOB_LABEL, Runner, RunnerError, Running
from kennel.emulator.runners.process import ProcessRunner
from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import TRAINING_LOGS, WARNING_LOGS
from kennel.emulator.state.log_lines import last_line
from kennel.emulator.state.shortages import LeavingError, Patience, passes, shortage_of, told
from kennel.emulator.state.store import Document, MissingError, Store
from kennel.emulator.state.sync import FolderSync
from kennel.emulator.training import outputs, warm_pool
from kennel.emulator.training import sampling as job_sampling
from kennel.emulator.training import stops as job_stops
from kennel.emulator.training.hosts import JobHost, job_hosts
from kennel.emulator.training.metrics import JobMetrics
from kennel.emulator.training.runs import JobRuns, first_failure
from kennel.emulator.training.standbys import Standbys
from kennel.storage import StorageError

STOP_GRACE_S = 120.0  # from SIGTERM to SIGKILL
_POLL_S = 0.2
_METRICS_S = 1.0
_OTHERS_S = 10.0  # for the other hosts to end by themselves after one has failed


@dataclass(frozen=True)
class Tools:
    """What all jobs share."""

    store: Store
    home: Home
    runner: Runner
    feeders: ProcessRunner
    standbys: Standbys
    region: str
    stop_grace_s: float


class TrainingJob:
    """One job from its document to its last status."""

    def __init__(self, name: str, tools: Tools, leaving: threading.Event) -> None:
        self.name = name
        self._tools = tools
        self._leaving = leaving
        self._wake = threading.Event()
        self._folder = tools.home.job_dir(name)
        self._interrupt_file = self._folder / "interrupt"
        self._metrics = JobMetrics(name, tools.home, tools.runner, Patience(leaving, self._folder), self._warn)

    def wake(self) -> None:
        """Look at the document now: somebody has changed it."""
        self._wake.set()

    def run(self) -> None:
        """Live until the job has ended, the server leaves or the job's document is gone."""
        with contextlib.suppress(MissingError, LeavingError):
            try:
                while not self._step():
                    pass
            except JobFailure as failure:
                if passes(failure):
                    raise
                self.fail(told(failure.reason, failure, self._folder))
            finally:
                self._metrics.close()

    def _step(self) -> bool:
        """One phase; whether the job has ended."""
        document = self._document()
        if document["TrainingJobStatus"] in job_status.ENDED:
            return True
        phases: dict[Phase, Callable[[Document], None]] = {
            Phase.PREPARING: self._prepare,
            Phase.LAUNCHING: self._adopt,
            Phase.RUNNING: self._watch,
            Phase.UPLOADING: self._finish,
        }
        phase = life(document).phase
        try:
            phases[phase](document)
            return phase == Phase.UPLOADING
        except JobFailure as failure:
            if passes(failure) or not failure.internal or not self._retry(failure.reason):
                raise
        return False

    # ---- preparing ------------------------------------------------------------------------------------------------

    def _prepare(self, document: Document) -> None:
        self._clear()
        pool = warm_pool.claim(self._tools.store, self.name)
        self._change(lambda d: job_status.move(d, "Starting", time.time()) if not self._is_stopping(d) else None)
        document = self._change(lambda d: self._enter(d, "Downloading", resume=True))
        hosts = job_hosts(document, self._folder, self._tools.region)
        refusal = self._tools.runner.refusal(len(hosts), isolated=bool(document.get("EnableNetworkIsolation")))
        if refusal:
            raise JobFailure(f"ClientError: {refusal}")
        if any(host.folder.is_dir() for host in hosts):  # of an attempt that was cut short
            self._hand_over(document, hosts)  # otherwise what it left could not be removed
        standby = self._tools.standbys.take(pool, hosts[0]) if pool else None
        if pool and warm_pool.SHARED not in document:
            self._tools.standbys.end(pool)  # it has been reused; who did not fit waits for nobody
        try:
            for host in hosts:
                host.prepare(self._tools.runner, self._is_stopped, anew=standby is None)
                sync = host.checkpoint_sync(self._warn)
                if sync and not self._is_stopped():
                    sync.restore()
        except (StorageError, OSError, ValueError) as error:
            shutil.rmtree(self._folder / "hosts", ignore_errors=True)  # it may be what fills the disk
            raise JobFailure(f"ClientError: Data download failed: {error}") from error
        if self._is_stopped():
            self._change(job_status.give_up_launch)
            return
        self._launch(hosts, standby)

    def _launch(self, hosts: list[JobHost], standby: str | None) -> None:
        now = time.time()
        streams = {host.host.name: f"{self.name}/{host.host.name}-{int(now)}" for host in hosts}
        self._change(lambda d: self._begin_launch(d, streams, now))
        try:
            for host in hosts:
                feeder = host.feeder()
                if feeder:
                    self._tools.feeders.start(feeder)
                log_file = self._tools.home.logs.file(TRAINING_LOGS, streams[host.host.name])
                log_file.parent.mkdir(parents=True, exist_ok=True)
                log_file.touch()
                if standby:
                    self._tools.runner.begin(standby, host.launch(log_file))
                else:
                    self._tools.runner.start(host.launch(log_file))
        except RunnerError as error:
            raise JobFailure(f"ClientError: {error}") from error

    def _begin_launch(self, document: Document, streams: dict[str, str], now: float) -> None:
        job_status.begin_launch(document, streams, now)
        self._enter(document, "Training")

    def _adopt(self, document: Document) -> None:
        """Note what has been launched by its labels; where a kill cut the launch short, begin again."""
        wanted = {host.host.name for host in job_hosts(document, self._folder, self._tools.region)}
        handles = self._found(self._tools.runner, HOST_LABEL)
        feeders = self._found(self._tools.feeders, FEEDER_LABEL)
        self._change(lambda d: job_status.adopt(d, handles, feeders, whole=handles.keys() == wanted))

    def _found(self, runner: Runner, label: str) -> dict[str, str]:
        """The handles of this job's runs by the host that the label names."""
        try:
            mine = runner.find(JOB_LABEL, self.name)
            return {host: handle for handle, host in runner.find(label).items() if handle in mine}
        except RunnerError as error:
            raise JobFailure(f"InternalServerError: {error}", internal=True) from error

    def _clear(self) -> None:
        """End and forget everything that an earlier attempt left."""
        for runner in (self._tools.runner, self._tools.feeders):
            try:
                for handle in runner.find(JOB_LABEL, self.name):
                    runner.remove(handle)
            except RunnerError as error:
                raise JobFailure(f"InternalServerError: {error}", internal=True) from error

    # ---- running --------------------------------------------------------------------------------------------------

    def _watch(self, document: Document) -> None:
        hosts = job_hosts(document, self._folder, self._tools.region)
        job_sampling.start(document, hosts, self._tools.runner, self._tools.feeders, self._warn)
        syncs = [sync for host in hosts for sync in (host.checkpoint_sync(self._warn), *host.output_syncs(self._warn))]
        running = [sync for sync in syncs if sync]
        for sync in running:
            sync.start()
        shared = document.get(warm_pool.SHARED) or {"name": "", "seconds": 0}
        self._keep_warm(document, shared["name"], shared["seconds"])
        self._metrics.watch(document)
        try:
            outcome = self._wait(document)
        except JobFailure:
            self._finish_syncs(running, may_fail=True)  # for the next attempt, if there is one
            raise
        finally:
            self._metrics.leave()
            for sync in running:
                sync.leave()
        self._hand_over(document, hosts)
        job_sampling.finish(self.name, self._tools.feeders)
        self._finish_syncs(running, may_fail=outcome.failed is not None)
        if outcome.stop == Stop.INTERRUPTED:
            self._change(lambda d: job_status.interrupt(d, time.time()))
            self._clear()
            return
        self._change(lambda d: job_status.begin_upload(d, outcome))

    def _finish_syncs(self, syncs: list[FolderSync], *, may_fail: bool) -> None:
        for sync in syncs:
            try:
                sync.finish()
            except (StorageError, OSError) as error:
                if not may_fail:  # otherwise the program's own failure is the reason
                    raise JobFailure(f"ClientError: Checkpoint upload failed: {error}") from error

    def _hand_over(self, document: Document, hosts: list[JobHost]) -> None:
        try:
            for folder in [folder for host in hosts for folder in host.written_folders()]:
                self._tools.runner.own(folder, document["AlgorithmSpecification"]["TrainingImage"])
        except RunnerError as error:
            self._warn(f"Some files may still belong to root: {error}")

    def _wait(self, document: Document) -> Outcome:
        """Wait until every host has ended."""
        runs = JobRuns(document, self._folder, self._tools.runner, self._tools.feeders)
        next_metrics, told = 0.0, False
        failed: HostFailure | None = None
        while True:
            if self._wake.is_set():
                self._wake.clear()  # first, so that a change that comes now is seen in the next round
                document = self._document()
            states = runs.states()
            if time.monotonic() >= next_metrics:
                self._read_metrics(document)
                next_metrics = time.monotonic() + _METRICS_S
            document = self._apply_limits(document)
            stop = life(document).stop
            if stop and not told:  # again after a restart, since nobody knows whether it was told
                runs.terminate()
                told = True
            failed = failed or (None if stop else first_failure(states))
            if not any(isinstance(state, Running) for state in states.values()):
                self._read_metrics(document, ended=True)
                return Outcome(None if stop else failed, stop)
            if time.time() >= self._kill_at(document, failed):
                runs.kill()
            if self._leaving.is_set():
                raise LeavingError
            self._wake.wait(_POLL_S)

    def _kill_at(self, document: Document, failed: HostFailure | None) -> float:
        stopped_at = life(document).stopped_at
        if stopped_at is not None:
            return stopped_at + self._tools.stop_grace_s
        return failed.at + _OTHERS_S if failed else float("inf")

    def _apply_limits(self, document: Document) -> Document:
        """Note a stop that is due."""
        if life(document).stop:
            return document
        reason = job_stops.due(document, time.time(), self._interrupt_file, self._warn)
        return self._change(lambda d: job_status.stop_because(d, reason, time.time())) if reason else document

    def _retry(self, reason: str) -> bool:
        """After an internal failure: whether another attempt was begun."""
        begun = False

        def again(document: Document) -> None:
            nonlocal begun
            begun = job_status.try_again(document, time.time())

        self._change(again)
        if begun:
            self._warn(f"The job is tried again: {reason}")
        return begun

    # ---- the end --------------------------------------------------------------------------------------------------

    def _finish(self, document: Document) -> None:
        outcome = life(document).outcome
        failed, stop = outcome.failed, outcome.stop
        document = self._change(lambda d: self._enter(d, "Uploading"))
        hosts = job_hosts(document, self._folder, self._tools.region)
        self._keep_warm(document, self.name, warm_pool.keep_alive_s(document))  # before the job is seen to have ended
        reason = self._reason(document, hosts, failed) if failed else None
        prepared = [host.paths for host in hosts if host.paths.base.is_dir()]
        model = self._upload(document, prepared, reason) if life(document).handles else None
        if not self._metrics.is_read:  # taken up after a restart
            self._read_metrics(document, ended=True)

        def note(document: Document) -> None:
            document["ModelArtifacts"] = {"S3ModelArtifacts": model or ""}
            self._end(document, failed, stop, reason)

        self._change(note)
        self._clean()

    def _upload(self, document: Document, prepared: list[ContainerPaths], reason: str | None) -> str | None:
        """Upload what there is. What was trained waits for a disk with room, unless the job failed or is stopped."""

        def upload() -> str | None:
            try:
                return outputs.upload(document, prepared, self._folder, failed=bool(reason))
            except (StorageError, OSError) as error:
                if passes(error) or (shortage_of(error) and not reason and not self._is_stopped()):
                    raise
                failure = told(f"ClientError: Artifact upload failed: {error}", error, self._folder)
                raise JobFailure(reason or failure) from None

        return Patience(self._leaving, self._folder).until_done(upload)

    def _keep_warm(self, document: Document, pool: str, seconds: float) -> None:
        """Have somebody wait for the next job; a job that was never started leaves nothing behind."""
        known = life(document)
        if not seconds or not known.handles or known.kept:
            return
        [first, *_] = job_hosts(document, self._folder, self._tools.region)
        problem = self._tools.standbys.keep(pool, first, seconds, many=warm_pool.SHARED in document)
        self._change(job_status.note_kept)
        if problem:
            self._warn(problem)

    def _end(self, document: Document, failed: object, stop: Stop | None, reason: str | None) -> None:
        now = time.time()
        warm_pool.release(document, now)
        if failed:
            job_status.end(document, "Failed", "Failed", now, reason)
        elif stop or self._is_stopping(document):
            job_status.end(document, "Stopped", (stop or Stop.USER).secondary, now)
        else:
            job_status.end(document, "Completed", "Completed", now)

    def _reason(self, document: Document, hosts: list[JobHost], failed: HostFailure) -> str:
        [host] = [one for one in hosts if one.host.name == failed.host]
        logs = self._logs(document, failed.host)
        return outputs.failure_reason(host.paths, failed.code, failed.reason, last_line(logs[-1]) if logs else "")

    def fail(self, reason: str) -> None:
        """End it as Failed."""

        def end(document: Document) -> None:
            now = time.time()
            warm_pool.release(document, now, lost=not reason.startswith("ClientError"))
            job_status.end(document, "Failed", "Failed", now, reason)

        with contextlib.suppress(MissingError):
            self._change(end)
            self._clean()

    def _clean(self) -> None:
        with contextlib.suppress(JobFailure):
            self._clear()
        shutil.rmtree(self._folder / "hosts", ignore_errors=True)

    # ---- the document ---------------------------------------------------------------------------------------------

    def _document(self) -> Document:
        return self._tools.store.get(KIND, self.name)

    def _change(self, change: Callable[[Document], object]) -> Document:
        return self._tools.store.update(KIND, self.name, change)

    def _is_stopped(self) -> bool:
        if self._leaving.is_set():
            raise LeavingError
        return self._is_stopping(self._document())

    @staticmethod
    def _is_stopping(document: Document) -> bool:
        return bool(document["TrainingJobStatus"] == "Stopping")

    def _enter(self, document: Document, secondary: str, *, resume: bool = False) -> None:
        """A stop that was asked for stays to be seen until the upload begins."""
        if resume:
            job_status.resume(document, time.time())
        if secondary == "Uploading" or not self._is_stopping(document):
            job_status.move(document, secondary, time.time())

    def _logs(self, document: Document, host: str | None = None) -> list[Path]:
        streams = life(document).streams
        mine = [stream for key, stream in streams.items() if host in (None, key.split()[0])]
        return [self._tools.home.logs.file(TRAINING_LOGS, stream) for stream in mine]

    def _read_metrics(self, document: Document, *, ended: bool = False) -> None:
        if self._metrics.read(document, self._logs(document), ended=ended):
            final = self._metrics.final()
            self._change(lambda d: d.update(FinalMetricDataList=final))

    def _warn(self, message: str) -> None:
        self._tools.home.logs.note(WARNING_LOGS, f"training-job/{self.name}", [message])
