"""The document of a training job, and how it changes while the job lives: statuses, transitions, times.

CreateTrainingJob stores the document "training-job" NAME with
    all members of the request but Tags, and the defaults that SageMaker fills in (see `_with_defaults`);
    TrainingJobArn, CreationTime, LastModifiedTime (seconds since 1970);
    TrainingJobStatus InProgress, SecondaryStatus Starting, SecondaryStatusTransitions with that one;
    _tags (keys and values), _warnings (a sentence for each member that is only recorded).
StopTrainingJob turns InProgress into Stopping, with its transition. The package `training` writes everything else:
further statuses and transitions, TrainingStartTime, TrainingEndTime, TrainingTimeInSeconds, BillableTimeInSeconds,
ModelArtifacts, FailureReason, FinalMetricDataList, WarmPoolStatus, LastModifiedTime.

Sources: SageMaker API reference, DescribeTrainingJob and SecondaryStatusTransition; developer guide, "Managed Spot
Training Lifecycle".
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from kennel.contract.paths import BASE_DIR
from kennel.emulator.documents.jobs import begin_stop
from kennel.emulator.documents.names import Request
from kennel.emulator.state.store import Document

KIND = "training-job"
ENDED = ("Completed", "Failed", "Stopped")
MAX_RUNTIME_S = 86_400  # StoppingCondition's default
VOLUME_GB = 30
REASON_CHARS = 1024  # of FailureReason
MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Interrupted": "The spot instance was taken away",
    "Restarting": "Starting the training job again after an internal error",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job waited longer than MaxWaitTimeInSeconds provided",
}


class Phase(StrEnum):
    """What the emulator does for a job that has not ended. Each can be taken up by a new server."""

    PREPARING = "preparing"  # its inputs; also the next attempt after an interruption or an internal failure
    LAUNCHING = "launching"  # its hosts, which are found again by their labels
    RUNNING = "running"
    UPLOADING = "uploading"  # what its hosts have left


class Stop(StrEnum):
    """Why a job is stopped."""

    USER = "user"
    MAX_RUNTIME = "max-runtime"
    MAX_WAIT = "max-wait"
    INTERRUPTED = "interrupted"  # its spot instances are taken away; it begins again

    @property
    def secondary(self) -> str:
        """The job's last secondary status."""
        return {Stop.MAX_RUNTIME: "MaxRuntimeExceeded", Stop.MAX_WAIT: "MaxWaitTimeExceeded"}.get(self, "Stopped")


_NEXT = {  # which phase may follow which
    Phase.PREPARING: (Phase.LAUNCHING, Phase.UPLOADING),
    Phase.LAUNCHING: (Phase.RUNNING, Phase.PREPARING),
    Phase.RUNNING: (Phase.UPLOADING, Phase.PREPARING),
    Phase.UPLOADING: (Phase.PREPARING,),
}


class IllegalMoveError(Exception):
    """A job cannot go from its phase to that one: a fault of the emulator."""


@dataclass
class JobFailure(Exception):  # noqa: N818 - the job's, not ours
    """How a job failed, as FailureReason says it; an internal one is tried again when RetryStrategy says so."""

    reason: str
    internal: bool = False


@dataclass
class HostFailure:
    """The first host that ended badly."""

    host: str
    code: int
    reason: str  # what the engine says of it, or nothing
    at: float  # when that was seen, in seconds since 1970


@dataclass
class Outcome:
    """How the hosts have ended: one failed, or they were stopped, or neither."""

    failed: HostFailure | None = None
    stop: Stop | None = None

    @classmethod
    def from_json(cls, value: Document) -> Outcome:
        """Read what `to_json` wrote."""
        failed, stop = value.get("failed"), value.get("stop")
        return cls(HostFailure(**failed) if failed else None, Stop(stop) if stop else None)

    def to_json(self) -> Document:
        """As it is stored."""
        return {"failed": asdict(self.failed)} if self.failed else {"stop": self.stop.value} if self.stop else {}


@dataclass
class Life:
    """What the emulator alone knows of a job: the document's member `_life`. Times are seconds since 1970."""

    phase: Phase = Phase.PREPARING
    attempt: int = 0  # interruptions until now
    retries: int = 0  # after internal failures
    spent_s: float = 0.0  # with instances, until `resumed`
    resumed: float | None = None  # since when it has its instances, if it has them
    handles: dict[str, str] = field(default_factory=dict)  # of the runs, by the names of the hosts
    feeders: dict[str, str] = field(default_factory=dict)  # of what fills their pipes
    streams: dict[str, str] = field(default_factory=dict)  # names of log streams, by "HOST TIME" of each launch
    stop: Stop | None = None
    stopped_at: float | None = None
    outcome: Outcome = field(default_factory=Outcome)
    kept: bool = False  # whether a standby was left for the next job
    pool_since: float | None = None  # when its instances became available to others

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Life:
        """Read what `to_json` wrote, or version 0.1."""
        given = {member.name: value[member.name] for member in fields(cls) if member.name in value}
        found = cls(**given)
        found.phase = Phase(found.phase)
        found.stop = Stop(found.stop) if found.stop else None
        found.outcome = Outcome.from_json(value.get("outcome") or {})
        return found

    def to_json(self) -> Document:
        """As it is stored: without what is not known."""
        plain = {**vars(self), "outcome": self.outcome.to_json()}
        return {name: value for name, value in plain.items() if value is not None}

    def enter(self, phase: Phase) -> None:
        """Go to the next phase.

        Raises:
            IllegalMoveError: it does not follow.
        """
        if phase not in _NEXT[self.phase]:
            raise IllegalMoveError(f"A training job cannot go from '{self.phase}' to '{phase}'.")
        self.phase = phase


@contextlib.contextmanager
def living(document: Document) -> Iterator[Life]:
    """The life of a job, to be changed in the block; without an error it is in the document afterwards."""
    found = life(document)
    yield found
    document["_life"] = found.to_json()


def life(document: Mapping[str, Any]) -> Life:
    """The life of a job, to be read."""
    return Life.from_json(document.get("_life") or {})


def training_document(request: Request, arn: str, now_s: float) -> Document:
    """What is stored of a new training job, but for its tags and warnings."""
    return {
        **_with_defaults(request),
        "TrainingJobArn": arn,
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "SecondaryStatusTransitions": [
            {"Status": "Starting", "StartTime": now_s, "StatusMessage": MESSAGES["Starting"]}
        ],
        "CreationTime": now_s,
        "LastModifiedTime": now_s,
    }


def _with_defaults(request: Request) -> Document:
    """The request with what SageMaker fills in, in places where the job's programs look for it."""
    document = copy.deepcopy(request)
    for flag in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"):
        document.setdefault(flag, False)
    document.setdefault("StoppingCondition", {}).setdefault("MaxRuntimeInSeconds", MAX_RUNTIME_S)
    document["AlgorithmSpecification"].setdefault("TrainingInputMode", "File")
    document["OutputDataConfig"].setdefault("CompressionType", "GZIP")
    resources = document["ResourceConfig"]
    if "InstanceGroups" not in resources:
        resources.setdefault("InstanceCount", 1)
    resources.setdefault("VolumeSizeInGB", VOLUME_GB)
    for channel in document.get("InputDataConfig", []):
        channel.setdefault("CompressionType", "None")
        channel.setdefault("RecordWrapperType", "None")
        channel["DataSource"].get("S3DataSource", {}).setdefault("S3DataDistributionType", "FullyReplicated")
    for member, folder in (("CheckpointConfig", "checkpoints"), ("DebugHookConfig", "output/tensors")):
        if member in document:
            document[member].setdefault("LocalPath", f"{BASE_DIR}/{folder}")
    return document


def begin_stopping(document: Document, now_s: float) -> None:
    """Turn InProgress into Stopping, with its transition; nothing where it is Stopping already.

    Raises:
        ValidationException: the job has ended.
    """
    if begin_stop(document, KIND, "TrainingJobStatus", now_s):
        move(document, "Stopping", now_s)


def move(document: Document, secondary: str, now: float) -> None:
    """Enter a secondary status; nothing when it is there already, as after a restart."""
    document["LastModifiedTime"] = now
    if document.get("SecondaryStatus") == secondary and document.get("SecondaryStatusTransitions"):
        return
    transitions = document.setdefault("SecondaryStatusTransitions", [])
    if transitions:
        transitions[-1].setdefault("EndTime", now)
    transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": MESSAGES[secondary]})
    document["SecondaryStatus"] = secondary


def end(document: Document, status: str, secondary: str, now: float, reason: str | None = None) -> None:
    """Enter a last status, with the times that are paid for."""
    if status == "Failed":
        document["FailureReason"] = (reason or "")[:REASON_CHARS]
    pause(document, now)
    move(document, secondary, now)
    document["SecondaryStatusTransitions"][-1]["EndTime"] = now
    document["TrainingJobStatus"] = status
    if "TrainingStartTime" in document:
        spent = max(1, round(life(document).spent_s))
        document |= {"TrainingEndTime": now, "TrainingTimeInSeconds": spent, "BillableTimeInSeconds": spent}


def begin_launch(document: Document, streams: Mapping[str, str], now: float) -> None:
    """The hosts are started from now on; their logs have these streams, by the hosts' names."""
    with living(document) as found:
        found.enter(Phase.LAUNCHING)
        found.streams.update({f"{host} {now}": stream for host, stream in streams.items()})


def adopt(document: Document, handles: dict[str, str], feeders: dict[str, str], *, whole: bool) -> None:
    """What was started has these handles. Where hosts are missing, the launch was cut short and begins again."""
    with living(document) as found:
        found.enter(Phase.RUNNING if whole else Phase.PREPARING)
        found.handles, found.feeders = handles, feeders


def give_up_launch(document: Document) -> None:
    """The job was stopped before it had hosts: there is nothing to upload."""
    with living(document) as found:
        found.enter(Phase.UPLOADING)
        found.handles, found.streams, found.outcome = {}, {}, Outcome()


def begin_upload(document: Document, outcome: Outcome) -> None:
    """All hosts have ended."""
    with living(document) as found:
        found.enter(Phase.UPLOADING)
        found.outcome = outcome


def note_kept(document: Document) -> None:
    """A standby was left for the next job."""
    with living(document) as found:
        found.kept = True


def stop_because(document: Document, reason: Stop, now: float) -> None:
    """Note why it is stopped, and since when."""
    with living(document) as found:
        found.stop, found.stopped_at = reason, now
    if reason in (Stop.MAX_RUNTIME, Stop.MAX_WAIT):
        document["TrainingJobStatus"] = "Stopping"
        move(document, "Stopping", now)


def interrupt(document: Document, now: float) -> None:
    """The spot instances are gone: go back to the start, with what the checkpoints hold."""
    move(document, "Interrupted", now)
    pause(document, now)
    with living(document) as found:
        found.enter(Phase.PREPARING)
        found.attempt += 1
        found.stop = found.stopped_at = None


def try_again(document: Document, now: float) -> bool:
    """After an internal failure: whether RetryStrategy has another attempt, which is begun."""
    attempts = (document.get("RetryStrategy") or {}).get("MaximumRetryAttempts", 0)
    if life(document).retries >= attempts or document["TrainingJobStatus"] == "Stopping":
        return False
    pause(document, now)
    move(document, "Restarting", now)
    with living(document) as found:
        if found.phase != Phase.PREPARING:
            found.enter(Phase.PREPARING)
        found.retries += 1
    return True


def resume(document: Document, now: float) -> None:
    """The instances are there from now on, and paid for."""
    document.setdefault("TrainingStartTime", now)
    with living(document) as found:
        found.resumed = now if found.resumed is None else found.resumed


def pause(document: Document, now: float) -> None:
    """The instances are not there any more."""
    with living(document) as found:
        if found.resumed is not None:
            found.spent_s += now - found.resumed
            found.resumed = None


def spent_s(document: Document, now: float) -> float:
    """Seconds for which the job had its instances."""
    found = life(document)
    return found.spent_s + (now - found.resumed if found.resumed is not None else 0)
