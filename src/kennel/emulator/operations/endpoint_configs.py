"""Endpoint configurations: which models share an endpoint's requests, on how many instances.

The document is the request without Tags, with EndpointConfigArn, CreationTime and the defaults of AWS for what was not
sent: InitialVariantWeight 1.0; DataCaptureConfig's EnableCapture false (and `_tags`, `_warnings`).
"""

from __future__ import annotations

from kennel.emulator.documents.endpoint import MULTI_MODEL, SINGLE_MODEL, container_of
from kennel.emulator.documents.names import Request
from kennel.emulator.errors import ValidationException
from kennel.emulator.operations.context import Context
from kennel.emulator.operations.listing import Listing
from kennel.emulator.operations.models import require_model
from kennel.emulator.operations.resources import Collection, create
from kennel.emulator.service_model import coverage
from kennel.emulator.state.store import Document

_CONFIGS = Collection(Listing("endpoint-config", "EndpointConfigName", ("EndpointConfigArn",)), "EndpointConfigs")


def create_endpoint_config(context: Context, request: Request) -> Document:
    """CreateEndpointConfig."""
    name = request["EndpointConfigName"]
    warnings = coverage.accept("CreateEndpointConfig", request, _problems(context, request))
    warnings += [*context.hosting.notes(request), *_capture_notes(request)]
    variants = [{"InitialVariantWeight": 1.0, **variant} for variant in request["ProductionVariants"]]
    document = {
        **request,
        "EndpointConfigArn": context.arn("endpoint-config", name),
        "ProductionVariants": variants,
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
    }
    return create(context, "endpoint-config", name, document, warnings)


describe_endpoint_config, list_endpoint_configs, delete_endpoint_config = (
    _CONFIGS.describe,
    _CONFIGS.list,
    _CONFIGS.remove,
)


def _problems(context: Context, request: Request) -> list[str]:
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    problems = [
        f"VariantName '{name}' is given twice; names are unique" for name in {n for n in names if names.count(n) > 1}
    ]
    if any("ServerlessConfig" in variant for variant in variants):
        if request.get("AsyncInferenceConfig"):
            problems.append("AsyncInferenceConfig and ServerlessConfig exclude each other; send one")
        if _captures(request):
            problems.append("a serverless variant's requests are not captured; leave DataCaptureConfig out")
    modes = set()
    for index, variant in enumerate(variants):
        found, mode = _model_problems(context, variant)
        modes.add(mode)
        found += _size_problems(variant)
        problems += [f"ProductionVariants[{index}]: {problem}" for problem in found]
    return problems + _mode_problems(request, modes)


def _captures(request: Request) -> bool:
    return bool((request.get("DataCaptureConfig") or {}).get("EnableCapture"))


def _capture_notes(request: Request) -> list[str]:
    if not request.get("AsyncInferenceConfig") or not _captures(request):
        return []
    return ["DataCaptureConfig has no effect here: payloads and answers of an asynchronous endpoint are files already"]


def _model_problems(context: Context, variant: Document) -> tuple[list[str], str]:
    """What is wrong with a variant's model, and the model's mode."""
    if "ModelName" not in variant:
        return ["ModelName must not be null; inference components are not emulated"], SINGLE_MODEL
    try:
        model = require_model(context, variant["ModelName"])
    except ValidationException as error:
        return [error.message], SINGLE_MODEL
    mode = container_of(model).get("Mode", SINGLE_MODEL)
    if mode == MULTI_MODEL and "ServerlessConfig" in variant:
        return ["a serverless variant cannot have a model whose Mode is MultiModel; send InstanceType"], mode
    return [], mode


def _size_problems(variant: Document) -> list[str]:
    sizes = ("InstanceType", "InitialInstanceCount")
    if "ServerlessConfig" in variant:
        return [f"{name} and ServerlessConfig exclude each other; send one" for name in sizes if name in variant]
    return [f"{name} must not be null without ServerlessConfig" for name in sizes if name not in variant]


def _mode_problems(request: Request, modes: set[str]) -> list[str]:
    if MULTI_MODEL not in modes:
        return []
    if request.get("AsyncInferenceConfig"):
        return ["an asynchronous endpoint cannot have models whose Mode is MultiModel: its requests name no model"]
    if SINGLE_MODEL in modes:
        return ["ProductionVariants: all models must have the same Mode, since all requests name a model or none does"]
    return []
