"""Training jobs: planned, sent, followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kennel.driver.checks import aws
from kennel.driver.errors import DriverError, WaitTimeoutError
from kennel.driver.jobs.logs import TRAINING_GROUP, Epoch, LogLine, LogReader, describe_metrics, read_epoch
from kennel.driver.requests import training as requests
from kennel.driver.requests.training import Machines, Request, Security, Training, unique_name
from kennel.driver.session.project import Project
from kennel.driver.session.reporting import finishing
from kennel.driver.session.session import Session
from kennel.driver.transfers.datasets import Source, sources
from kennel.driver.transfers.upload import upload

KIND = "training-job"
_LISTED = "kennel jobs lists them; kennel logs has --endpoint and --transform for what is no training job."
TERMINAL = ("Completed", "Failed", "Stopped")
_POLL_LOCAL_S = 0.5
_POLL_FIRST_S = 0.1  # until the first line: somebody waits for it
_POLL_AWS_S = 5.0
_LAST_LINES_S = 6.0  # CloudWatch Logs shows a line some seconds after it was printed


@dataclass(frozen=True)
class Plan:
    """A job before it is sent: the request's values, and the folders that must be in S3 first."""

    training: Training
    sources: tuple[Source, ...]

    @property
    def request(self) -> Request:
        """Exactly what CreateTrainingJob is sent."""
        return requests.create_training_job(self.training)


@dataclass(frozen=True)
class JobState:
    """What DescribeTrainingJob tells, as far as people ask."""

    name: str
    status: str
    secondary: str
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    artifact: str
    failure: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    billable_s: int = 0
    instance_type: str = ""
    instance_count: int = 1

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in TERMINAL


def security_of(project: Project) -> Security:
    """Network and keys of the project."""
    return Security(
        project.vpc.subnets,
        project.vpc.security_groups,
        project.network_isolation,
        project.encrypt_traffic,
        project.kms.volume,
        project.kms.output,
    )


def plan(
    session: Session, data: str | None, *, channels: Mapping[str, str] | None = None, name: str | None = None
) -> Plan:
    """Work out a job; nothing is sent, uploaded or started.

    Raises:
        KennelError: what is missing or wrong.
    """
    project, settings = session.project, session.project.train
    own_name = name or unique_name("train")
    found = sources(
        data, channels or {}, base_uri=session.base_uri, local=session.is_local, input_mode=settings.input_mode
    )
    training = Training(
        name=own_name,
        image=session.image("train"),
        role=session.role,
        channels=tuple(source.channel for source in found),
        output_uri=f"{session.base_uri}/output",
        machines=Machines(
            settings.instance_type, settings.instance_count, settings.volume_gb, 60 * settings.keep_alive_minutes
        ),
        hyperparameters=project.hyperparameters,
        max_runtime_s=60 * settings.max_runtime_minutes,
        spot=settings.spot,
        max_wait_s=60 * settings.max_wait_minutes,
        checkpoint_uri=_checkpoints(session, own_name),
        environment=project.environment,
        security=security_of(project),
        tags=project.tags,
    )
    made = Plan(training, tuple(found))
    session.check("CreateTrainingJob", made.request)
    return made


def _checkpoints(session: Session, name: str) -> str:
    settings = session.project.train
    if settings.checkpoint_uri == "auto" or (settings.spot and not settings.checkpoint_uri):
        return f"{session.base_uri}/checkpoints/{name}"
    return settings.checkpoint_uri


def start(session: Session, made: Plan) -> str:
    """Check, upload and send a planned job; returns its name.

    Raises:
        DriverError: a check failed, or a refusal.
    """
    training = made.training
    provide(session, made)
    session.create(
        "CreateTrainingJob", KIND, training.name, made.request,
        instance_type=training.machines.instance_type,
        instance_count=training.machines.instance_count,
        output_uri=training.output_uri,
    )  # fmt: skip
    return training.name


def provide(session: Session, made: Plan) -> None:
    """On AWS, look whether the account can take the job, and put its data where the job reads it.

    Raises:
        DriverError: a check failed, or the upload did.
    """
    if not session.is_local:
        training = made.training
        aws.require_account(session.clients, session.project, training.role, training.image, session.reporter.say)
    _upload(session, made)


def _upload(session: Session, made: Plan) -> None:
    for source in made.sources:
        if source.folder is None:
            continue
        uri = source.channel.uri
        entry = session.begin("data", uri, folder=str(source.folder))
        session.reporter.say(f"Uploading {source.folder} to {uri}")
        done = upload(source.folder, uri, session.clients("s3"), session.reporter, kms_key=session.project.kms.output)
        session.record.confirm(entry)
        session.reporter.say(f"Uploaded: {done}")


def describe(session: Session, name: str) -> JobState:
    """How a job is.

    Raises:
        DriverError: there is none of this name.
    """
    return _state(session.known("DescribeTrainingJob", requests.by_name(KIND, name), "training job", _LISTED))


def find(session: Session, name: str) -> JobState | None:
    """How a job is; None when there is none of this name.

    Raises:
        DriverError: it may not be described.
    """
    answer = session.find("DescribeTrainingJob", requests.by_name(KIND, name))
    return None if answer is None else _state(answer)


def _state(answer: Mapping[str, Any]) -> JobState:
    resources = answer.get("ResourceConfig", {})
    return JobState(
        name=answer["TrainingJobName"],
        status=answer["TrainingJobStatus"],
        secondary=answer.get("SecondaryStatus", ""),
        created=answer.get("CreationTime"),
        started=answer.get("TrainingStartTime"),
        ended=answer.get("TrainingEndTime"),
        artifact=answer.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""),
        failure=answer.get("FailureReason", ""),
        metrics={entry["MetricName"]: entry["Value"] for entry in answer.get("FinalMetricDataList", [])},
        billable_s=answer.get("BillableTimeInSeconds", 0),
        instance_type=resources.get("InstanceType", ""),
        instance_count=resources.get("InstanceCount", 1),
    )


def reader(session: Session, name: str) -> LogReader:
    """The log of a job."""
    return LogReader(session.clients("logs"), TRAINING_GROUP, f"{name}/")


def follow(
    session: Session,
    name: str,
    on_line: Callable[[LogLine], None],
    *,
    on_state: Callable[[JobState], None] = lambda _: None,
    timeout_s: float | None = None,
) -> JobState:
    """Hand over each log line as it comes, and how the job is, until it is over.

    Raises:
        DriverError: the job or its log may not be read.
        WaitTimeoutError: it goes on for longer than `timeout_s`.
    """
    log, poll_s = reader(session, name), _POLL_FIRST_S if session.is_local else _POLL_AWS_S
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        state = describe(session, name)  # before the log: what it printed before its end is then read, too
        on_state(state)
        for line in log.read():
            on_line(line)
            poll_s = max(poll_s, _POLL_LOCAL_S)
        if state.is_over:
            if not session.is_local:
                time.sleep(_LAST_LINES_S)
            for line in log.read():
                on_line(line)
            session.record.note(KIND, name, session.project.on, billable_s=state.billable_s)
            return state
        if deadline is not None and time.monotonic() > deadline:
            raise WaitTimeoutError(f"Job {name} is still {state.secondary or state.status}.", f"kennel logs -f {name}")
        time.sleep(poll_s)


def wait(session: Session, name: str, *, timeout_s: float | None = None) -> JobState:
    """Follow a job with a bar of its epochs, or with a line an epoch.

    Raises:
        DriverError: it failed; the message is its failure reason.
    """
    reporter, epochs, phases = session.reporter, list[Epoch](), list[str]()

    def show(line: LogLine) -> None:
        epoch = read_epoch(line.message)
        if epoch:
            epochs.append(epoch)
            reporter.say(str(epoch))
            reporter.live(epoch.number, epoch.total, f"{name}  {describe_metrics(epoch.metrics)}")

    def tell(state: JobState) -> None:
        if state.secondary not in phases and not session.is_local:  # a machine takes minutes to come
            reporter.say(f"{name} is {state.secondary}")
        phases.append(state.secondary)
        if not epochs:
            reporter.live(0, 0, f"{name}  {state.secondary}: waiting for the first epoch")

    with finishing(reporter):
        state = follow(session, name, show, on_state=tell, timeout_s=timeout_s)
    if state.status == "Failed":
        raise DriverError(f"Job {name} failed: {state.failure}", f"kennel logs {name} shows all it printed.")
    return state


def listing(session: Session, *, limit: int = 20, contains: str = "", status: str = "") -> list[dict[str, Any]]:
    """The newest jobs, of any status or of one: name, status, created, ended.

    Raises:
        DriverError: they may not be listed.
    """
    return session.newest("ListTrainingJobs", "TrainingJobSummaries", limit=limit, contains=contains, status=status)


def stop(session: Session, name: str) -> None:
    """Ask a job to stop; it saves what it has within 120 seconds.

    Raises:
        DriverError: there is none, or it is over.
    """
    state = describe(session, name)
    if state.is_over:
        raise DriverError(f"Job {name} is {state.status} already.", f"kennel logs {name} shows what it printed.")
    session.send("StopTrainingJob", requests.by_name(KIND, name))
