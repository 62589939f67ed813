"""Endpoints: planned, created or updated, waited for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kennel.driver.checks import aws
from kennel.driver.endpoints import artifacts
from kennel.driver.endpoints.artifacts import Artifact
from kennel.driver.errors import DriverError, WaitTimeoutError
from kennel.driver.jobs.logs import ENDPOINT_GROUP, LogReader
from kennel.driver.jobs.training import security_of
from kennel.driver.requests import training as requests
from kennel.driver.requests.training import Async, Capture, Hosting, Machines, Model, Request, Serverless, unique_name
from kennel.driver.session.refusals import explained
from kennel.driver.session.reporting import finishing
from kennel.driver.session.session import Session

_POLL_LOCAL_S = 0.3
_POLL_AWS_S = 10.0
_TIMEOUT_S = 3600.0  # AWS gives up on an endpoint by itself long before
_SETTLE_S = 20.0  # an update that was just asked for may not show yet
_LOG_LINES = 12
_OWN_STEPS = 3  # of a plan: model, configuration, endpoint; what follows is for the scaler
_SCALER = "application-autoscaling"
_WAITS_FOR = {
    "Creating": "the machine, the image, the model; /ping must answer 200",
    "Updating": "the new containers to be healthy; the old ones still answer",
    "RollingBack": "the old configuration, the new one did not become healthy",
    "Deleting": "the containers to end",
}


@dataclass(frozen=True)
class Scaling:
    """Instances between two bounds, so many that each gets about `invocations` a minute. AWS only."""

    low: int
    high: int
    invocations: float = 70.0

    def steps(self, endpoint: str) -> list[tuple[str, Request]]:
        """What is sent to Application Auto Scaling, in order, when the endpoint is in service."""
        return [
            ("RegisterScalableTarget", requests.register_scalable_target(endpoint, self.low, self.high)),
            ("PutScalingPolicy", requests.put_scaling_policy(endpoint, self.invocations)),
        ]


@dataclass(frozen=True)
class Plan:
    """An endpoint before anything is sent."""

    endpoint: str
    model: Model
    hosting: Hosting
    artifact: Artifact
    scaling: Scaling | None
    updates: bool  # the endpoint exists

    @property
    def steps(self) -> list[tuple[str, Request]]:
        """Exactly what is sent, in order."""
        last = (
            ("UpdateEndpoint", requests.update_endpoint(self.endpoint, self.hosting.name))
            if self.updates
            else ("CreateEndpoint", requests.create_endpoint(self.endpoint, self.hosting.name, self.hosting.tags))
        )
        return [
            ("CreateModel", requests.create_model(self.model)),
            ("CreateEndpointConfig", requests.create_endpoint_config(self.hosting)),
            last,
            *(self.scaling.steps(self.endpoint) if self.scaling else []),
        ]


def plan(
    session: Session,
    what: str,
    *,
    name: str | None = None,
    serverless: bool = False,
    asynchronous: bool = False,
    capture_percentage: int = 0,
    scaling: Scaling | None = None,
    environment: Mapping[str, str] | None = None,
) -> Plan:
    """Work out an endpoint; nothing is created.

    Args:
        session: settings.
        what: a job's name, an artifact's URI or path.
        name: of the endpoint; one that exists gets a new configuration without dropping a request.
        serverless, asynchronous: instead of an endpoint on machines that run all the time.
        capture_percentage: share of requests whose bodies and answers are kept.
        scaling: bounds of the number of instances.
        environment: of the serve container.

    Raises:
        KennelError: what is missing or wrong.
    """
    project = session.project
    own = unique_name("model")
    endpoint = name or unique_name("endpoint")
    _refuse_contradictions(session, serverless, asynchronous, scaling)
    artifact = artifacts.resolve(session, what, own)
    model = Model(
        own, session.image("serve"), session.role, artifact.uri, environment or {}, security_of(project), project.tags
    )
    settings = project.deploy
    hosting = Hosting(
        name=unique_name("config"),
        model=own,
        machines=Machines(settings.instance_type, settings.instance_count),
        serverless=Serverless(settings.serverless_memory_mb, settings.serverless_concurrency) if serverless else None,
        asynchronous=Async(f"{session.base_uri}/async/{endpoint}") if asynchronous else None,
        capture=Capture(f"{session.base_uri}/capture", capture_percentage) if capture_percentage else None,
        startup_timeout_s=settings.startup_timeout_s,
        volume_kms_key="" if serverless else project.kms.volume,
        tags=project.tags,
    )
    made = Plan(endpoint, model, hosting, artifact, scaling, name is not None and _exists(session, name))
    for number, (operation, request) in enumerate(made.steps):
        session.check(operation, request, service="sagemaker" if number < _OWN_STEPS else _SCALER)
    return made


def _refuse_contradictions(session: Session, serverless: bool, asynchronous: bool, scaling: Scaling | None) -> None:
    if serverless and asynchronous:
        raise DriverError("An endpoint is serverless or asynchronous, not both.", "Leave one of the flags out.")
    if scaling and (session.is_local or serverless):
        where = "The local SageMaker" if session.is_local else "A serverless endpoint"
        raise DriverError(f"{where} has no target tracking.", "Use --instance-count for a fixed number of instances.")
    if scaling and not 1 <= scaling.low <= scaling.high:  # none: nothing would count requests, and start one again
        raise DriverError(
            f"Scaling from {scaling.low} to {scaling.high} instances is no range from 1 on.", "Write MIN:MAX."
        )
    project = session.project
    if serverless and (project.vpc.subnets or project.network_isolation):
        raise DriverError(
            "A serverless endpoint has neither VPC nor network isolation.", "Unset vpc and network_isolation for it."
        )


def _exists(session: Session, name: str) -> bool:
    return session.find("DescribeEndpoint", requests.by_name("endpoint", name)) is not None


def start(session: Session, made: Plan) -> str:
    """Create model, configuration and endpoint, or update the endpoint; returns its name.

    Raises:
        DriverError: a refusal. What was created until then is recorded; `kennel clean` deletes it.
    """
    if not session.is_local:
        aws.require_account(
            session.clients, session.project, made.model.role, made.model.image, session.reporter.say
        )  # fmt: skip
    artifacts.provide(session, made.artifact)
    (_, model), (_, config), (operation, endpoint) = made.steps[:_OWN_STEPS]
    session.create("CreateModel", "model", made.model.name, model, artifact=made.artifact.uri)
    details = _machines(made.hosting)
    session.create("CreateEndpointConfig", "endpoint-config", made.hosting.name, config)
    if made.updates:
        session.send(operation, endpoint)
        session.record.note("endpoint", made.endpoint, session.project.on, **details)
    else:
        session.create(operation, "endpoint", made.endpoint, endpoint, **details)
    return made.endpoint


def _machines(hosting: Hosting) -> dict[str, Any]:
    if hosting.serverless:
        return {"serverless": True}
    return {"instance_type": hosting.machines.instance_type, "instance_count": hosting.machines.instance_count}


def scale(session: Session, endpoint: str, scaling: Scaling) -> None:
    """Let Application Auto Scaling choose the number of instances; the endpoint must be in service.

    Raises:
        DriverError: a refusal.
    """
    (register, target), (put, policy) = scaling.steps(endpoint)
    session.create(register, "scaling-target", endpoint, target, service=_SCALER)
    session.send(put, policy, service=_SCALER)


def describe(session: Session, name: str) -> Any:
    """DescribeEndpoint's answer.

    Raises:
        DriverError: there is none of this name.
    """
    return session.known(
        "DescribeEndpoint", requests.by_name("endpoint", name), "endpoint", "kennel endpoints lists them."
    )


def wait(session: Session, name: str, *, config: str = "", timeout_s: float = _TIMEOUT_S) -> Any:
    """Wait until an endpoint is in service, telling what is waited for; returns DescribeEndpoint's answer.

    Args:
        session: settings.
        name: the endpoint.
        config: the configuration that it shall have; another one means that the update was rolled back.
        timeout_s: how long.

    Raises:
        DriverError: it failed, with the reason and the end of its log.
        WaitTimeoutError: neither in service nor failed in time.
    """
    begun, status, has_changed = time.monotonic(), "", False
    with finishing(session.reporter):
        while True:
            answer = describe(session, name)
            elapsed_s = time.monotonic() - begun
            if answer["EndpointStatus"] != status:
                status = answer["EndpointStatus"]
                session.reporter.say(_told(name, status))
            session.reporter.live(0, 0, f"{name}  {status}")
            has_changed = has_changed or status in ("Updating", "RollingBack")
            if status == "InService" and (not config or answer.get("EndpointConfigName") == config):
                session.reporter.say(f"{name} is in service after {elapsed_s:.1f} s")
                return answer
            if status == "InService" and (has_changed or elapsed_s > _SETTLE_S):
                raise _rolled_back(name, config, answer)
            if status in ("Failed", "OutOfService", "UpdateRollbackFailed"):
                raise _failed(session, name, answer)
            if elapsed_s > timeout_s:
                raise WaitTimeoutError(
                    f"Endpoint {name} is still {status} after {elapsed_s:.0f} s.", "kennel endpoints"
                )
            time.sleep(_POLL_LOCAL_S if session.is_local else _POLL_AWS_S)


def _told(name: str, status: str) -> str:
    waits_for = _WAITS_FOR.get(status)
    return f"{name} is {status}: waiting for {waits_for}" if waits_for else f"{name} is {status}"


def _rolled_back(name: str, config: str, answer: Any) -> DriverError:
    reason = answer.get("FailureReason") or "the new containers did not become healthy"
    return DriverError(
        f"Endpoint {name} still has the configuration {answer['EndpointConfigName']}, not {config}: {reason}",
        f"It answers as before. kennel logs {name} --endpoint shows why the update failed.",
    )


def _failed(session: Session, name: str, answer: Any) -> DriverError:
    reason = answer.get("FailureReason") or f"status {answer['EndpointStatus']}"
    try:
        lines = [line.message for line in reader(session, name).read()][-_LOG_LINES:]
    except DriverError:
        lines = []  # the reason is worth more than why its log cannot be read
    tail = "".join(f"\n    {line}" for line in lines)
    return DriverError(
        f"Endpoint {name} failed: {reason}{tail}", f"kennel logs {name} --endpoint shows all it printed."
    )


def reader(session: Session, name: str) -> LogReader:
    """The log of an endpoint."""
    return LogReader(session.clients("logs"), f"{ENDPOINT_GROUP}/{name}")


def listing(session: Session) -> list[dict[str, Any]]:
    """All endpoints, the newest first.

    Raises:
        DriverError: they may not be listed.
    """
    with explained("ListEndpoints"):
        pages = (
            session.clients("sagemaker")
            .get_paginator("list_endpoints")
            .paginate(SortBy="CreationTime", SortOrder="Descending")
        )
        return [endpoint for page in pages for endpoint in page["Endpoints"]]
