"""Endpoint configurations: which models share an endpoint's requests, on how many instances.

The document is the request without Tags, with EndpointConfigArn, CreationTime and the defaults of AWS for what was not
sent: InitialVariantWeight 1.0; DataCaptureConfig's EnableCapture false (and `_tags`, `_warnings`).
"""

from __future__ import annotations

from kennel.emulator import coverage
from kennel.emulator.errors import ValidationException
from kennel.emulator.operations.context import Context, Request
from kennel.emulator.operations.listing import Listing
from kennel.emulator.operations.models import containers_of, require_model
from kennel.emulator.operations.resources import create, describe, remove
from kennel.emulator.store import Document

_LISTING = Listing("endpoint-config", "EndpointConfigName", ("EndpointConfigArn",))


def create_endpoint_config(context: Context, request: Request) -> Document:
    """CreateEndpointConfig."""
    name = request["EndpointConfigName"]
    warnings = coverage.accept("CreateEndpointConfig", request, _problems(context, request))
    variants = [{"InitialVariantWeight": 1.0, **variant} for variant in request["ProductionVariants"]]
    document = {
        **request,
        "EndpointConfigArn": context.arn("endpoint-config", name),
        "ProductionVariants": variants,
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
    }
    return create(context, "endpoint-config", name, document, warnings)


def describe_endpoint_config(context: Context, request: Request) -> Document:
    """DescribeEndpointConfig."""
    return describe(context, "endpoint-config", request["EndpointConfigName"])


def list_endpoint_configs(context: Context, request: Request) -> Document:
    """ListEndpointConfigs."""
    page = _LISTING.page(context.store, request)
    return {"EndpointConfigs": page["Items"], "NextToken": page["NextToken"]}


def delete_endpoint_config(context: Context, request: Request) -> Document:
    """DeleteEndpointConfig: an endpoint that was made from it goes on."""
    return remove(context, "endpoint-config", request["EndpointConfigName"])


def _problems(context: Context, request: Request) -> list[str]:
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    problems = [
        f"VariantName '{name}' is given twice; names are unique" for name in {n for n in names if names.count(n) > 1}
    ]
    for index, variant in enumerate(variants):
        problems += [f"ProductionVariants[{index}]: {problem}" for problem in _variant_problems(context, variant)]
    return problems


def _variant_problems(context: Context, variant: Document) -> list[str]:
    problems = []
    if "ModelName" not in variant:
        problems.append("ModelName must not be null; inference components are not emulated")
    else:
        try:
            containers = containers_of(require_model(context, variant["ModelName"]))
            if containers[0].get("Mode") == "MultiModel":
                problems.append("endpoints of several models are not emulated; name a model whose Mode is SingleModel")
        except ValidationException as error:
            problems.append(error.message)
    if "ServerlessConfig" in variant:
        both = [name for name in ("InstanceType", "InitialInstanceCount") if name in variant]
        problems += [f"{name} and ServerlessConfig exclude each other; send one" for name in both]
    else:
        needed = [name for name in ("InstanceType", "InitialInstanceCount") if name not in variant]
        problems += [f"{name} must not be null without ServerlessConfig" for name in needed]
    return problems
