"""Batch transform: a model over every image of a folder or prefix."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.driver.checks import aws
from kennel.driver.endpoints import artifacts
from kennel.driver.endpoints.artifacts import Artifact
from kennel.driver.errors import DriverError, WaitTimeoutError
from kennel.driver.jobs.logs import TRANSFORM_GROUP, LogReader
from kennel.driver.jobs.training import security_of
from kennel.driver.requests import training as requests
from kennel.driver.requests.training import Machines, Model, Request, Transform, payload_mb, unique_name
from kennel.driver.session.reporting import finishing
from kennel.driver.session.session import Session
from kennel.driver.transfers.upload import upload, visible_files
from kennel.driver.transfers.uris import file_uri, is_uri

KIND = "transform-job"
TERMINAL = ("Completed", "Failed", "Stopped")
_POLL_LOCAL_S = 0.5
_POLL_AWS_S = 10.0


@dataclass(frozen=True)
class Plan:
    """A transform job before anything is sent."""

    job: Transform
    model: Model | None  # None: the model exists
    artifact: Artifact | None
    upload_from: Path | None

    @property
    def steps(self) -> list[tuple[str, Request]]:
        """Exactly what is sent, in order."""
        before = [("CreateModel", requests.create_model(self.model))] if self.model else []
        return [*before, ("CreateTransformJob", requests.create_transform_job(self.job))]


def plan(session: Session, what: str, data: str, *, output: str | None = None, name: str | None = None) -> Plan:
    """Work out a transform job; nothing is sent.

    Args:
        session: settings.
        what: the name of a model or of a training job, or an artifact's URI or path.
        data: a folder or an s3:// prefix; every object in it is one request.
        output: a folder or URI for the answers; below the base URI unless given.
        name: of the job.

    Raises:
        KennelError: what is missing or wrong.
    """
    own, settings = name or unique_name("transform"), session.project.transform
    uri, folder = _input(session, data)
    model, artifact = (None, None) if _is_model(session, what) else _model(session, what)
    largest = max((path.stat().st_size for path in visible_files(folder)), default=0) if folder else 0
    job = Transform(
        name=own,
        model=model.name if model else what,
        input_uri=uri,
        output_uri=_output(session, output, own),
        machines=Machines(settings.instance_type, settings.instance_count),
        max_concurrent=settings.max_concurrent,
        max_payload_mb=payload_mb(largest),
        security=security_of(session.project),
        tags=session.project.tags,
    )
    made = Plan(job, model, artifact, None if session.is_local else folder)
    for operation, request in made.steps:
        session.check(operation, request)
    return made


def _input(session: Session, data: str) -> tuple[str, Path | None]:
    if is_uri(data):
        return data, None
    folder = Path(data).expanduser().absolute()
    if not folder.is_dir():
        raise DriverError(f"{folder} is not a folder.", "Give a folder of images, or an s3:// URI.")
    if session.is_local:
        return file_uri(folder, folder=True), folder
    from kennel.driver.transfers.datasets import upload_name

    return f"{session.base_uri}/data/{upload_name(folder)}/", folder


def _output(session: Session, output: str | None, name: str) -> str:
    if output is None:
        return f"{session.base_uri}/transform/{name}"
    if is_uri(output):
        return output
    if not session.is_local:
        raise DriverError(f"AWS cannot write to {output}.", "Give --output s3://BUCKET/PREFIX, or leave it out.")
    return file_uri(Path(output).expanduser())


def _is_model(session: Session, what: str) -> bool:
    if is_uri(what) or Path(what).expanduser().exists():
        return False
    return session.find("DescribeModel", requests.by_name("model", what)) is not None


def _model(session: Session, what: str) -> tuple[Model, Artifact]:
    own = unique_name("model")
    artifact = artifacts.resolve(session, what, own)
    project = session.project
    return (
        Model(own, session.image("serve"), session.role, artifact.uri, {}, security_of(project), project.tags),
        artifact,
    )


def start(session: Session, made: Plan) -> str:
    """Upload what AWS needs, create the model and the job; returns the job's name.

    Raises:
        DriverError: a refusal.
    """
    job = made.job
    if not session.is_local:
        role, image = (made.model.role, made.model.image) if made.model else ("", "")
        aws.require_account(session.clients, session.project, role, image, session.reporter.say)
    if made.upload_from:
        session.reporter.say(f"Uploading {made.upload_from} to {job.input_uri}")
        entry = session.begin("data", job.input_uri)
        done = upload(
            made.upload_from, job.input_uri, session.clients("s3"), session.reporter,
            kms_key=session.project.kms.output,
        )  # fmt: skip
        session.record.confirm(entry)
        session.reporter.say(f"Uploaded: {done}")
    if made.model and made.artifact:
        artifacts.provide(session, made.artifact)
        session.create("CreateModel", "model", made.model.name, made.steps[0][1], artifact=made.artifact.uri)
    session.create(
        "CreateTransformJob", KIND, job.name, made.steps[-1][1],
        instance_type=job.machines.instance_type, instance_count=job.machines.instance_count,
        output_uri=job.output_uri,
    )  # fmt: skip
    return job.name


def wait(session: Session, name: str, *, timeout_s: float | None = None) -> Any:
    """Wait until a transform job is over; returns DescribeTransformJob's answer.

    Raises:
        DriverError: it failed; the message is its failure reason.
        WaitTimeoutError: it goes on for longer than `timeout_s`.
    """
    begun, status = time.monotonic(), ""
    with finishing(session.reporter):
        while True:
            answer = describe(session, name)
            if answer["TransformJobStatus"] != status:
                status = answer["TransformJobStatus"]
                session.reporter.say(f"{name} is {status}")
            session.reporter.live(0, 0, f"{name}  {status}")
            if status in TERMINAL:
                break
            if timeout_s is not None and time.monotonic() - begun > timeout_s:
                raise WaitTimeoutError(f"Transform job {name} is still {status}.", f"kennel logs {name} --transform")
            time.sleep(_POLL_LOCAL_S if session.is_local else _POLL_AWS_S)
    if status == "Failed":
        reason = answer.get("FailureReason", "no reason given")
        raise DriverError(f"Transform job {name} failed: {reason}", f"kennel logs {name} --transform")
    note_duration(session, name, answer)
    return answer


def describe(session: Session, name: str) -> Any:
    """DescribeTransformJob's answer.

    Raises:
        DriverError: there is none of this name.
    """
    return session.known(
        "DescribeTransformJob", requests.by_name(KIND, name), "transform job", "kennel status tells what runs."
    )


def stop(session: Session, name: str) -> None:
    """Ask a transform job to stop; what it has written stays.

    Raises:
        DriverError: there is none, or it is over.
    """
    status = describe(session, name)["TransformJobStatus"]
    if status in TERMINAL:
        raise DriverError(
            f"Transform job {name} is {status} already.", f"kennel logs {name} --transform shows its log."
        )
    session.send("StopTransformJob", requests.by_name(KIND, name))


def listing(session: Session, *, limit: int = 20, contains: str = "", status: str = "") -> list[dict[str, Any]]:
    """The newest transform jobs, of any status or of one.

    Raises:
        DriverError: they may not be listed.
    """
    return session.newest("ListTransformJobs", "TransformJobSummaries", limit=limit, contains=contains, status=status)


def note_duration(session: Session, name: str, answer: Any) -> None:
    """Keep how long a finished transform job ran."""
    begun, ended = answer.get("TransformStartTime"), answer.get("TransformEndTime")
    if begun and ended:
        session.record.note(KIND, name, session.project.on, billable_s=(ended - begun).total_seconds())


def reader(session: Session, name: str) -> LogReader:
    """The log of a transform job."""
    return LogReader(session.clients("logs"), TRANSFORM_GROUP, f"{name}/")
