"""Endpoints as the API has them; who runs them is context.hosting.

The document is what Describe answers, with the deployments that documents/endpoint.py describes. An operation writes
what is wanted and a status that says so. The package `hosting` writes everything after that.
"""

from __future__ import annotations

from collections.abc import Callable

from kennel.emulator.documents.endpoint import (
    CREATING,
    CURRENT,
    DELETING,
    GENERATION,
    IN_SERVICE,
    KIND,
    NEXT,
    OUT_OF_SERVICE,
    SCALED_FROM,
    UPDATING,
    new_deployment,
    summaries,
)
from kennel.emulator.documents.names import Request
from kennel.emulator.errors import ValidationException
from kennel.emulator.hosting.endpoint import show
from kennel.emulator.operations import resources
from kennel.emulator.operations.context import Context
from kennel.emulator.operations.listing import Listing
from kennel.emulator.operations.models import require_model
from kennel.emulator.operations.resources import create, describe
from kennel.emulator.service_model import coverage
from kennel.emulator.state.log_files import WARNING_LOGS
from kennel.emulator.state.store import Document

_LISTING = Listing(KIND, "EndpointName", ("EndpointArn",), status="EndpointStatus")


def create_endpoint(context: Context, request: Request) -> Document:
    """CreateEndpoint."""
    name = request["EndpointName"]
    warnings = coverage.accept("CreateEndpoint", request)
    now_s = context.clock()
    document = {
        "EndpointName": name,
        "EndpointArn": context.arn(KIND, name),
        "EndpointConfigName": request["EndpointConfigName"],
        "EndpointStatus": CREATING,
        "CreationTime": now_s,
        "LastModifiedTime": now_s,
        "LastDeploymentConfig": request.get("DeploymentConfig"),
        "Tags": request.get("Tags", []),
        CURRENT: None,
        NEXT: _deployment(context, request["EndpointConfigName"], 1),
        GENERATION: 1,
    }
    show(document, {})
    created = create(context, KIND, name, document, warnings)
    context.hosting.start(name)
    return created


def describe_endpoint(context: Context, request: Request) -> Document:
    """DescribeEndpoint."""
    document = describe(context, KIND, request["EndpointName"])
    pending = document.get(NEXT)
    if pending and document.get(CURRENT):
        since_s = document["LastModifiedTime"]
        document["PendingDeploymentSummary"] = {
            "EndpointConfigName": pending["config"]["EndpointConfigName"],
            "ProductionVariants": summaries(pending, {}, "Creating", since_s),
            "StartTime": since_s,
        }
    return document


def list_endpoints(context: Context, request: Request) -> Document:
    """ListEndpoints."""
    page = _LISTING.page(context.store, request)
    return {"Endpoints": page["Items"], "NextToken": page["NextToken"]}


def update_endpoint(context: Context, request: Request) -> Document:
    """UpdateEndpoint: the new containers first, then all requests to them, then the old ones end."""
    warnings = coverage.accept("UpdateEndpoint", request)
    name = request["EndpointName"]
    current = describe(context, KIND, name)
    pending = _deployment(context, request["EndpointConfigName"], current[GENERATION] + 1)

    def change(document: Document) -> None:
        _require_rest(document)
        pending["generation"] = document[GENERATION] = document[GENERATION] + 1
        if request.get("RetainAllVariantProperties"):
            _retain(document[CURRENT], pending, request)
        document[NEXT] = pending
        document.update(EndpointStatus=UPDATING, LastModifiedTime=context.clock())
        document.pop("FailureReason", None)
        if "DeploymentConfig" in request:
            document["LastDeploymentConfig"] = request["DeploymentConfig"]

    updated = _update(context, name, change)
    if warnings:
        context.home.logs.note(WARNING_LOGS, f"{KIND}/{name}", warnings)
    return updated


def update_endpoint_weights_and_capacities(context: Context, request: Request) -> Document:
    """UpdateEndpointWeightsAndCapacities."""
    wanted = request["DesiredWeightsAndCapacities"]
    coverage.accept("UpdateEndpointWeightsAndCapacities", request)

    def change(document: Document) -> None:
        _require_rest(document)
        current = document[CURRENT]
        unknown = [one["VariantName"] for one in wanted if one["VariantName"] not in current["weights"]]
        if unknown:
            known = ", ".join(current["weights"])
            raise ValidationException(f'Could not find variant "{unknown[0]}". There are {known}.')
        document[SCALED_FROM] = dict(current["counts"])
        for one in wanted:
            name = one["VariantName"]
            current["weights"][name] = one.get("DesiredWeight", current["weights"][name])
            current["counts"][name] = one.get("DesiredInstanceCount", current["counts"][name])
        document.update(EndpointStatus=UPDATING, LastModifiedTime=context.clock())
        healthy = {one["VariantName"]: one["CurrentInstanceCount"] for one in document["ProductionVariants"]}
        show(document, healthy)

    return _update(context, request["EndpointName"], change)


def delete_endpoint(context: Context, request: Request) -> Document:
    """DeleteEndpoint: its containers answer what they have taken on, then end; then it is gone."""

    def change(document: Document) -> None:
        document.update(EndpointStatus=DELETING, LastModifiedTime=context.clock())

    _update(context, request["EndpointName"], change)
    return {}


def _update(context: Context, name: str, change: Callable[[Document], None]) -> Document:
    document = resources.change(context, KIND, name, change)
    context.hosting.wake(name)
    return document


def _require_rest(document: Document) -> None:
    status = document["EndpointStatus"]
    if status not in (IN_SERVICE, OUT_OF_SERVICE) or not document.get(CURRENT):
        advice = "Delete it and create it anew." if status == "Failed" else "Wait until it is InService."
        what = "failed" if status == "Failed" else "in-progress"
        raise ValidationException(f'Cannot update {what} endpoint "{document["EndpointArn"]}" ({status}). {advice}')


def _deployment(context: Context, config_name: str, generation: int) -> Document:
    """The configuration and its models as they are now.

    Raises:
        ValidationException: one of them is not there.
    """
    config = describe(context, "endpoint-config", config_name)
    models = {one["VariantName"]: require_model(context, one["ModelName"]) for one in config["ProductionVariants"]}
    return new_deployment(generation, config, models)


def _retain(current: Document, pending: Document, request: Request) -> None:
    """Keep what was changed since the old configuration, for variants of the same names."""
    excluded = {one["VariantPropertyType"] for one in request.get("ExcludeRetainedVariantProperties", [])}
    for kind, member in (("DesiredWeight", "weights"), ("DesiredInstanceCount", "counts")):
        if kind not in excluded:
            pending[member] |= {name: current[member][name] for name in pending[member] if name in current[member]}
    if "DataCaptureConfig" not in excluded:
        pending["capture"] = current.get("capture")
