"""Deleting what was created, as often as it takes, and naming what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kennel.driver.account import spending
from kennel.driver.endpoints import transform as transforming
from kennel.driver.errors import DriverError
from kennel.driver.jobs import training, tuning
from kennel.driver.jobs.trials import trial_names
from kennel.driver.requests import training as requests
from kennel.driver.session.record import Entry
from kennel.driver.session.refusals import explained, is_missing
from kennel.driver.session.session import Session
from kennel.driver.transfers.upload import delete_objects, list_objects
from kennel.driver.transfers.uris import path_of, split_s3

# What costs money by the hour first; what another resource still names last.
ORDER = (
    "scaling-target",
    "endpoint",
    "endpoint-config",
    "transform-job",
    "tuning-job",
    "training-job",
    "model",
    "data",
)
DATA = "data"
_STOP_TIMEOUT_S = 300.0  # 120 s of grace, and the upload of what was saved


@dataclass
class Cleaned:
    """What a clean did, and what is left."""

    deleted: list[Entry] = field(default_factory=list)
    left: list[tuple[Entry, str]] = field(default_factory=list)  # with the reason

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "deleted": [_plain(entry) for entry in self.deleted],
            "left": [{**_plain(entry), "reason": reason} for entry, reason in self.left],
        }


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind, "name": entry.name, "on": entry.on, "region": entry.region, "account": entry.account,
    }  # fmt: skip


def due(session: Session, kinds: Sequence[str] = ORDER) -> list[Entry]:
    """What a clean would delete, in its order."""
    here = [entry for entry in session.record.alive() if entry.on == session.project.on]
    return [entry for kind in ORDER if kind in kinds for entry in here if entry.kind == kind]


def clean(session: Session, *, data: bool = False) -> Cleaned:
    """Delete everything recorded for this end of the line; uploads only when asked.

    What is already gone counts as deleted; what cannot be deleted is named, and the next clean tries again.

    Args:
        session: local or aws.
        data: uploaded data and archives, too.
    """
    done = Cleaned()
    for entry in due(session):
        if entry.kind == DATA and not data:
            done.left.append((entry, "uploaded data; --data deletes it"))
        elif entry.account != session.account:
            done.left.append((entry, f"of account {entry.account}; the credentials are those of {session.account}"))
        elif entry.region != session.clients.region:
            done.left.append((entry, f"in another region; --region {entry.region} deletes it"))
        else:
            _try(session, entry, done)
    return done


def delete_endpoint(session: Session, name: str) -> Cleaned:
    """Delete one endpoint, its configuration, and the models that it names, with their scaling.

    Of one that is gone already, the record forgets it and its scaling; what it named is left to `clean`.

    Raises:
        DriverError: the endpoint may not be described.
    """
    done = Cleaned()
    wanted = {("endpoint", name), ("scaling-target", name)}
    answer = session.find("DescribeEndpoint", requests.by_name("endpoint", name))
    if answer is not None:
        config = answer["EndpointConfigName"]
        wanted.add(("endpoint-config", config))
        described = session.send("DescribeEndpointConfig", requests.by_name("endpoint-config", config))
        wanted |= {("model", variant["ModelName"]) for variant in described["ProductionVariants"]}
    for entry in due(session):
        if (entry.kind, entry.name) in wanted:
            _try(session, entry, done)
    return done


def _try(session: Session, entry: Entry, done: Cleaned) -> None:
    from botocore.exceptions import ClientError

    session.reporter.say(f"Deleting {entry.kind} {entry.name}")
    try:
        with explained():
            try:
                _DELETE[entry.kind](session, entry.name)
            except ClientError as error:
                if not is_missing(error):
                    raise
    except DriverError as error:
        if error.__cause__ is None or not is_missing(error.__cause__):
            done.left.append((entry, str(error)))
            return
    session.record.mark_deleted(entry)
    done.deleted.append(entry)


def _delete_training_job(session: Session, name: str) -> None:
    state = training.describe(session, name)
    if not state.is_over:
        if state.status == "InProgress":
            training.stop(session, name)
        _wait_for(lambda: training.describe(session, name).is_over, f"training job {name} still stops")
        state = training.describe(session, name)
    session.record.note(training.KIND, name, session.project.on, billable_s=state.billable_s)
    session.call("DeleteTrainingJob", requests.by_name(training.KIND, name))


def _delete_tuning_job(session: Session, name: str) -> None:
    """Stop it, delete its training jobs, which nobody else recorded, and then the tuning job itself."""
    state = tuning.describe(session, name)
    if not state.is_over:
        if state.status == "InProgress":
            tuning.stop(session, name)
        _wait_for(lambda: tuning.describe(session, name).is_over, f"tuning job {name} still stops")
    spending.note_tuning(session, name)
    for trial in trial_names(session, name):
        try:
            with explained():
                _delete_training_job(session, trial)
        except DriverError as error:
            if error.__cause__ is None or not is_missing(error.__cause__):
                raise
    session.call("DeleteHyperParameterTuningJob", requests.by_name(tuning.KIND, name))


def _delete_transform_job(session: Session, name: str) -> None:
    """Stop it; SageMaker has no operation that deletes one, and its entry costs nothing."""

    def status() -> str:
        return str(
            session.call("DescribeTransformJob", requests.by_name(transforming.KIND, name))["TransformJobStatus"]
        )

    if status() == "InProgress":
        session.call("StopTransformJob", requests.by_name(transforming.KIND, name))
    _wait_for(lambda: status() in transforming.TERMINAL, f"transform job {name} still stops")


def _wait_for(is_over: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while not is_over():
        if time.monotonic() > deadline:
            raise DriverError(problem)
        time.sleep(1)


def _delete_data(session: Session, uri: str) -> None:
    if uri.startswith("file://"):
        path = path_of(uri)
        if session.home.uploads_dir in path.parents:  # nothing else on this machine was put there by the driver
            path.unlink(missing_ok=True)
        return
    bucket, prefix = split_s3(uri)
    s3 = session.clients("s3")
    delete_objects(s3, bucket, [entry["Key"] for entry in list_objects(s3, bucket, prefix)])


def _delete_scaling(session: Session, endpoint: str) -> None:
    request = requests.deregister_scalable_target(endpoint)
    session.call("DeregisterScalableTarget", request, service="application-autoscaling")


def _simple(operation: str, kind: str) -> Callable[[Session, str], None]:
    def delete(session: Session, name: str) -> None:
        session.call(operation, requests.by_name(kind, name))

    return delete


_DELETE: dict[str, Callable[[Session, str], None]] = {
    "scaling-target": _delete_scaling,
    "endpoint": _simple("DeleteEndpoint", "endpoint"),
    "endpoint-config": _simple("DeleteEndpointConfig", "endpoint-config"),
    "transform-job": _delete_transform_job,
    "tuning-job": _delete_tuning_job,
    "training-job": _delete_training_job,
    "model": _simple("DeleteModel", "model"),
    DATA: _delete_data,
}
