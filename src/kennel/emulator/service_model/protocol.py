"""Requests and answers by botocore's service models: what comes in is checked, what goes out is shaped."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, NoReturn

import botocore.session
from botocore.model import OperationModel, ServiceModel, Shape

from kennel.emulator.errors import AwsError, ValidationException
from kennel.emulator.service_model.validation import problems_of


@functools.cache
def service_model(name: str) -> ServiceModel:
    """A service by botocore's name, such as `sagemaker-runtime`."""
    return botocore.session.get_session().get_service_model(name)


def operation_model(service: str, name: str) -> OperationModel:
    """One operation of a service.

    Raises:
        AwsError: UnknownOperationException; the service has none of that name.
    """
    model = service_model(service)
    if name not in model.operation_names:
        raise AwsError("UnknownOperationException", f"{model.service_name} has no operation '{name[:100]}'.")
    return model.operation_model(name)


def read_json(body: bytes) -> dict[str, Any]:
    """A body of AWS's JSON protocol, without nulls, which mean the same as absence.

    Raises:
        AwsError: SerializationException; it is not a JSON object of clean text.
    """
    try:
        value = json.loads(body or b"{}", parse_constant=_refuse_constant)
        clean = _without_nulls(value)
    except RecursionError:
        raise AwsError("SerializationException", "The body is nested too deeply. Send a flat request.") from None
    except ValueError as error:  # wrong JSON, wrong UTF-8, a number of thousands of digits, text that is none
        raise AwsError("SerializationException", f"The body is not the JSON of a request: {error}.") from None
    if not isinstance(clean, dict):
        raise AwsError("SerializationException", f"The body is a JSON {type(value).__name__}. Send an object.")
    return clean


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(key): _without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value if one is not None]
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    if "\0" in value:  # neither a file's name nor an environment variable can hold one
        raise ValueError("a string holds the character U+0000")
    value.encode()  # a lone surrogate is no text: UnicodeEncodeError, which is a ValueError
    return value


def validate(operation: OperationModel, request: Mapping[str, Any]) -> None:
    """Hold a request against the model.

    Raises:
        ValidationException: it lists all that is wrong.
    """
    shape = operation.input_shape
    problems = problems_of(dict(request), shape) if shape is not None else [f"Unknown member '{n}'" for n in request]
    if problems:
        raise ValidationException.of(problems)


def shaped(document: Mapping[str, Any], shape: Shape | None) -> dict[str, Any]:
    """What an answer of this shape shows of a document: the model's members, no private ones, no None."""
    found = _shaped(dict(document), shape) if shape is not None else {}
    return dict(found)


def _shaped(value: Any, shape: Any) -> Any:
    if shape.type_name == "structure":
        shown = {name: value.get(name) for name in shape.members}
        return {name: _shaped(one, shape.members[name]) for name, one in shown.items() if one is not None}
    if shape.type_name == "list":
        return [_shaped(one, shape.member) for one in value]
    if shape.type_name == "map":
        return {key: _shaped(one, shape.value) for key, one in value.items()}
    return value


def error_body(error: AwsError) -> dict[str, Any]:
    """An error as AWS's JSON protocols have it; some clients look for `message`, the models say `Message`."""
    return {"__type": error.code, "message": error.message, "Message": error.message, **error.members}
