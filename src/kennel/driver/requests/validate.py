"""Holding a request against botocore's service model before anything is uploaded or paid for.

botocore itself checks types, required members and lower limits only; enums, patterns and upper limits are checked by
AWS, after the upload. Here all of them are, at once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from kennel.driver.errors import DriverError
from kennel.driver.requests.service_model import service_model
from kennel.driver.requests.training import Request

_FILE_URI = re.compile(r"file:///.*")  # what the local SageMaker takes beside S3 URIs


def problems(operation: str, request: Request, *, file_uris: bool, service: str = "sagemaker") -> list[str]:
    """Everything that the model says against a request.

    Args:
        operation: its name in the model, such as CreateTrainingJob.
        request: its parameters.
        file_uris: whether `file:///…` may stand where an S3 URI is asked for, as on the local SageMaker.
        service: whose model.
    """
    from botocore.validate import ParamValidator

    shape = service_model(service).operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    found = report.generate_report().splitlines() if report.has_errors() else []
    return found + list(_walk(shape, request, operation, file_uris))


def require(operation: str, request: Request, *, file_uris: bool, service: str = "sagemaker") -> None:
    """Refuse a request that the model refuses.

    Raises:
        DriverError: with all problems.
    """
    found = problems(operation, request, file_uris=file_uris, service=service)
    if found:
        raise DriverError("\n".join(found), f"{operation} was not sent.")


def _walk(shape: Any, value: Any, path: str, file_uris: bool) -> Iterator[str]:
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, inner in value.items():
            if name in shape.members:
                yield from _walk(shape.members[name], inner, f"{path}.{name}", file_uris)
    elif shape.type_name == "list" and isinstance(value, list):
        yield from _too_many(shape, value, path)
        for number, inner in enumerate(value):
            yield from _walk(shape.member, inner, f"{path}[{number}]", file_uris)
    elif shape.type_name == "map" and isinstance(value, dict):
        yield from _too_many(shape, value, path)
        for name, inner in value.items():
            yield from _walk(shape.key, name, f"{path} key", file_uris)
            yield from _walk(shape.value, inner, f"{path}.{name}", file_uris)
    elif shape.type_name == "string" and isinstance(value, str):
        yield from _string(shape, value, path, file_uris)
    elif isinstance(value, int | float) and value > shape.metadata.get("max", value):
        yield f"{path} is {value}; the largest is {shape.metadata['max']}."


def _too_many(shape: Any, value: Any, path: str) -> Iterator[str]:
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"{path} has {len(value)} entries; at most {shape.metadata['max']} are allowed."


def _string(shape: Any, value: str, path: str, file_uris: bool) -> Iterator[str]:
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"{path} has {len(value)} characters; at most {shape.metadata['max']} are allowed."
        return
    enum = getattr(shape, "enum", [])
    if enum and value not in enum:
        yield f"{path} is '{value}'; {_choices(value, enum)}"
    pattern = shape.metadata.get("pattern")
    if pattern and not (file_uris and "s3" in pattern and _FILE_URI.fullmatch(value)):
        expression = _compiled(pattern)
        if expression and not expression.fullmatch(value):
            yield f"{path} is '{value}', which does not have the form {pattern}"


def _choices(value: str, enum: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(value, enum, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"use one of {', '.join(enum[:12])}."


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None for a pattern in Java's own dialect, which AWS alone can judge."""
    try:
        return re.compile(pattern)
    except re.error:
        return None
