"""What is kept warm: containers and processes that were started early and wait for a job.

SageMaker keeps a machine with its image for the next job of a warm pool. Here the machine is always there; what costs
time is starting the container, the interpreter and its imports. So the end of a job that leaves a pool starts the same
image once more, on an empty base folder, with everything imported (classifier/processes/standby.py). It has run no
job and runs one only: nothing of the last job can be in it. A standby that waits for longer than its pool lives ends by
itself, even while no emulator runs. One that an emulator left behind is found again by the next.

    keep(pool, host, seconds)   start one for jobs like that of `host`; says why not, where it cannot be
    take(pool, host)            give the one that fits, with its folder, to the host of a job that begins
    end(pool)                   end what waits for that pool

A pool is any name: of the job that left it (warm_pool.py), or of the tuning job whose trials follow one another. What
waits fits a job that would start the same image with the same variables and network, and with the same data of this
machine mounted; hyperparameters, outputs and downloads are the job's own. Jobs of several hosts, with a command of
their own, or of images that cannot wait are started as ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kennel.contract.files import write_private
from kennel.emulator.runners.base import (
    CAN_WAIT_LABEL,
    JOB_LABEL,
    STANDBY_LABEL,
    Launch,
    Runner,
    RunnerError,
    Waiting,
)
from kennel.emulator.threads.timers import Timers
from kennel.emulator.training.hosts import JobHost
from kennel.storage import StorageError

MOST = 4  # that wait at once; each has a few hundred megabytes
_LAST_S = 2.0  # of a life in which nobody is given away any more
_JOB_VARIABLES = ("TRAINING_JOB_NAME", "TRAINING_JOB_ARN")
_TOOLKIT_PREFIX = "sagemaker_"  # hyperparameters and variables that make the image run another program than its own


@dataclass(frozen=True)
class Standby:
    """One that waits."""

    name: str
    pool: str
    key: str  # equal for jobs that it fits
    until: float  # s since 1970
    handle: str

    @property
    def is_over(self) -> bool:
        """Whether nobody should get it any more."""
        return time.time() > self.until - _LAST_S


class Standbys:
    """All of a home. Safe for threads."""

    def __init__(self, folder: Path, runner: Runner, timers: Timers) -> None:
        """Keep a folder for each below `folder`, which lies on the same disk as the jobs' own."""
        self._folder = folder
        self._runner = runner
        self._timers = timers
        self._lock = threading.Lock()

    def keep(self, pool: str, host: JobHost, seconds: float, *, many: bool = False) -> str:
        """Start one for jobs like this host's, for so long; empty, or a sentence that says why none waits.

        Many follow one another where each keeps one: their imports are then done once for all.
        """
        try:
            waiting = self._runner.waiting(host.document["AlgorithmSpecification"]["TrainingImage"])
            problem = _problem(host, waiting)
            if problem or waiting is None:
                return problem
            with self._lock:
                for extra in self._all()[: -(MOST - 1)]:
                    self._remove(extra)
                self._start(pool, host, waiting, seconds, many=many)
        except (RunnerError, StorageError, OSError, ValueError) as error:
            return f"Nothing waits for the next job: {error}"
        self._timers.after(seconds, self.expire)
        return ""

    def _start(self, pool: str, host: JobHost, waiting: Waiting, seconds: float, *, many: bool) -> None:
        name = uuid.uuid4().hex[:12]
        folder = self._folder / name
        own = replace(host, folder=folder / "host")
        own.lay_out()
        launch = own.launch(folder / "log")
        key = _key(waiting, launch, own.folder)
        launch = replace(
            launch,
            name=f"standby.{name}",
            arguments=(*waiting.arguments, str(seconds)),
            environ={key: value for key, value in launch.environ.items() if key not in _JOB_VARIABLES},
            mounts=tuple(filter(waiting.early, launch.mounts)),
            labels={STANDBY_LABEL: name},
            many=many,
        )
        try:
            handle = self._runner.start(launch)
        except RunnerError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        write_private(folder / "standby.json", asdict(Standby(name, pool, key, time.time() + seconds, handle)))

    def take(self, pool: str, host: JobHost) -> str | None:
        """The handle of one that fits, which from now on is the host's and waits in the host's folder, or None."""
        with contextlib.suppress(RunnerError), self._lock:
            mine = [one for one in self._all() if one.pool == pool and not one.is_over]
            waiting = self._runner.waiting(host.document["AlgorithmSpecification"]["TrainingImage"]) if mine else None
            if waiting is None or _problem(host, waiting):
                return None
            key = _key(waiting, host.launch(Path()), host.folder)
            for one in mine:
                if one.key == key and self._give(one, host):
                    return one.handle
        return None

    def _give(self, one: Standby, host: JobHost) -> bool:
        try:
            self._runner.assign(one.handle, {JOB_LABEL: host.document["TrainingJobName"]})
        except RunnerError:  # it has died
            self._remove(one)
            return False
        shutil.rmtree(host.folder, ignore_errors=True)
        host.folder.parent.mkdir(parents=True, exist_ok=True)
        (self._folder / one.name / "host").rename(host.folder)  # mounts and working directory move with it
        write_private(host.paths.standby_file, {})  # so that it does not give up while data is fetched
        shutil.rmtree(self._folder / one.name, ignore_errors=True)
        return True

    def end(self, pool: str) -> None:
        """End what waits for a pool."""
        with self._lock:
            for one in self._all():
                if one.pool == pool:
                    self._remove(one)

    def expire(self) -> None:
        """End whoever has waited long enough."""
        with self._lock:
            for one in self._all():
                if one.is_over:
                    self._remove(one)

    def recover(self) -> None:
        """After a restart: end what nobody can be given, and look after the rest."""
        with self._lock:
            known = {one.handle: one for one in self._all()}
            with contextlib.suppress(RunnerError):
                for handle in self._runner.find(STANDBY_LABEL):
                    if handle not in known or known[handle].is_over:
                        self._runner.remove(handle)
            names = {one.name for one in known.values() if not one.is_over}
            for folder in self._folder.glob("*/"):
                if folder.name not in names:
                    shutil.rmtree(folder, ignore_errors=True)
        for one in known.values():
            self._timers.after(max(0.0, one.until - time.time()), self.expire)

    def _all(self) -> list[Standby]:
        """The oldest first."""
        return sorted(self._read(), key=lambda one: one.until)

    def _read(self) -> Iterator[Standby]:
        for file in self._folder.glob("*/standby.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                yield Standby(**json.loads(file.read_text(encoding="utf-8")))

    def _remove(self, one: Standby) -> None:
        with contextlib.suppress(RunnerError):
            self._runner.remove(one.handle)
        shutil.rmtree(self._folder / one.name, ignore_errors=True)


def _problem(host: JobHost, waiting: Waiting | None) -> str:
    """Why nobody can wait for a job like this, as a sentence; empty when somebody can."""
    algorithm = host.document["AlgorithmSpecification"]
    names = [*(host.document.get("HyperParameters") or {}), *(host.document.get("Environment") or {})]
    if len(host.hosts) > 1:
        return "Nothing waits for the next job: jobs of several instances are started as a whole."
    if algorithm.get("ContainerEntrypoint") or algorithm.get("ContainerArguments"):
        return "Nothing waits for the next job: with ContainerEntrypoint or ContainerArguments it is another program."
    if any(name.lower().startswith(_TOOLKIT_PREFIX) for name in names):
        return f"Nothing waits for the next job: a name that begins with {_TOOLKIT_PREFIX} makes it another program."
    if waiting is None:
        return (
            f"Nothing waits for the next job: the image '{algorithm['TrainingImage']}' cannot be started before its "
            f"job. One that can says so by a label {CAN_WAIT_LABEL}; see the docs of warm pools."
        )
    return ""


def _key(waiting: Waiting, launch: Launch, folder: Path) -> str:
    """Equal for launches of which one can take the other's place."""
    early = filter(waiting.early, launch.mounts)
    mounts = [(_below(mount.source, folder), mount.target, mount.read_only) for mount in early]
    facts: Mapping[str, Any] = {
        "identity": waiting.identity,
        "image": launch.image,
        "environ": {key: value for key, value in launch.environ.items() if key not in _JOB_VARIABLES},
        "mounts": sorted(mounts),
        "host": [launch.hostname, launch.hosts, launch.isolated, launch.shm_size_bytes, launch.gpus, launch.user],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _below(path: Path, folder: Path) -> str:
    """A path as the folder's own, where it is."""
    return f"./{path.relative_to(folder)}" if path.is_relative_to(folder) else str(path)
