"""Models: an image, its artifact and its environment.

The document is the request without Tags, with ModelArn and CreationTime (and `_tags`, `_warnings`).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from kennel.emulator.documents.endpoint import MULTI_MODEL
from kennel.emulator.documents.names import Request
from kennel.emulator.errors import ValidationException
from kennel.emulator.operations.context import Context
from kennel.emulator.operations.listing import Listing
from kennel.emulator.operations.resources import Collection, create, describe
from kennel.emulator.service_model import coverage
from kennel.emulator.state.store import Document

_MODELS = Collection(Listing("model", "ModelName", ("ModelArn",)), "Models")


def create_model(context: Context, request: Request) -> Document:
    """CreateModel."""
    name = request["ModelName"]
    warnings = coverage.accept("CreateModel", request, _problems(request)) + context.hosting.notes(request)
    document = {
        **request,
        "ModelArn": context.arn("model", name),
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
    }
    return create(context, "model", name, document, warnings)


describe_model, list_models, delete_model = _MODELS.describe, _MODELS.list, _MODELS.remove


def containers_of(model: Document) -> list[Document]:
    """A model's containers: the primary one, or the list."""
    return [model["PrimaryContainer"]] if "PrimaryContainer" in model else list(model.get("Containers", []))


def _problems(request: Request) -> list[str]:
    containers = containers_of(request)
    if len(containers) != 1 or ("PrimaryContainer" in request and "Containers" in request):
        return [f"There are {len(containers)} containers; send one, as PrimaryContainer (no inference pipelines here)"]
    place = "PrimaryContainer" if "PrimaryContainer" in request else "Containers[0]"
    return [f"{place}: {problem}" for problem in _container_problems(containers[0])]


def _container_problems(container: Document) -> list[str]:
    problems = []
    if not container.get("Image"):
        problems.append("Image must not be null; name the image that serves the model")
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        problems.append("ModelDataUrl and ModelDataSource exclude each other; send one")
    if container.get("Mode") == MULTI_MODEL and "ModelDataUrl" not in container:
        problems.append("Mode is MultiModel; ModelDataUrl must be the prefix under which the models' archives are")
    if container.get("Mode") == MULTI_MODEL and "ModelDataSource" in container:
        problems.append("a model whose Mode is MultiModel takes no ModelDataSource; send ModelDataUrl")
    url = container.get("ModelDataUrl", "")
    if url and container.get("Mode") != MULTI_MODEL and not url.endswith(".tar.gz"):
        problems.append(f"ModelDataUrl '{url}' must end in .tar.gz; for a folder send ModelDataSource")
    if url.startswith("file://") and not Path(unquote(urlsplit(url).path)).exists():
        problems.append(f"Could not find model data at {url}; train first, or correct the path")
    return problems


def require_model(context: Context, name: str) -> Document:
    """A model that something else names.

    Raises:
        ValidationException: there is none, in AWS's words.
    """
    try:
        return describe(context, "model", name)
    except ValidationException as error:
        raise ValidationException(f"{error.message} Create it before it is used.") from None
