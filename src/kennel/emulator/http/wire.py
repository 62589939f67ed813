"""The forms in which AWS's clients speak: JSON with a target header, REST, CBOR, and the query form of STS."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from botocore.model import OperationModel, ShapeResolver
from starlette.responses import Response

from kennel.emulator.errors import AwsError
from kennel.emulator.http.security import Head
from kennel.emulator.service_model import cbor
from kennel.emulator.service_model.protocol import error_body, operation_model, read_json, service_model, shaped

Request = dict[str, Any]
TARGETS = {"SageMaker": "sagemaker", "Logs_20140328": "logs", "GraniteServiceVersion20100801": "cloudwatch"}
_CBOR_PATH = re.compile(r"/service/GraniteServiceVersion20100801/operation/(\w+)")
_ENDPOINT_PATH = re.compile(r"/endpoints/([^/]+)/(invocations|async-invocations|invocations-response-stream)")
_INVOCATIONS = {
    "invocations": "InvokeEndpoint",
    "async-invocations": "InvokeEndpointAsync",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
}
_ERROR = ShapeResolver(
    {
        "Error": {"type": "structure", "members": {"__type": {"shape": "Text"}, "message": {"shape": "Text"}}},
        "Text": {"type": "string"},
    }
).get_shape_by_name("Error")
_STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


class Wire(Protocol):
    """One form of requests and answers."""

    @property
    def service(self) -> str:
        """As botocore names it."""

    def read(self, head: Head, body: bytes) -> tuple[OperationModel, Request]:
        """The operation and its members.

        Raises:
            AwsError: there is no such operation, or the body is not of this form.
        """

    def answer(self, operation: OperationModel, document: Mapping[str, Any]) -> Response:
        """What the client gets when all went well."""

    def error(self, error: AwsError) -> Response:
        """What it gets when not."""


@dataclass(frozen=True)
class JsonWire:
    """AWS JSON 1.0 and 1.1: POST / with X-Amz-Target."""

    service: str
    operation: str

    def read(self, head: Head, body: bytes) -> tuple[OperationModel, Request]:  # noqa: ARG002 - the target was read
        """The operation is in the header, its members are the body."""
        return operation_model(self.service, self.operation), read_json(body)

    def answer(self, operation: OperationModel, document: Mapping[str, Any]) -> Response:
        """The members as a JSON object; of an operation without any, an empty body, as AWS has it."""
        if operation.output_shape is None:
            return self._response(b"", 200)
        return self._response(json.dumps(shaped(document, operation.output_shape)).encode(), 200)

    def error(self, error: AwsError) -> Response:
        """The code is in `__type`."""
        return self._response(json.dumps(error_body(error)).encode(), error.status)

    def _response(self, body: bytes, status: int) -> Response:
        version = service_model(self.service).metadata["jsonVersion"]
        return Response(body, status, _request_id(), f"application/x-amz-json-{version}")


@dataclass(frozen=True)
class CborWire:
    """Smithy RPC v2 with CBOR, which botocore chooses for CloudWatch."""

    service: str
    operation: str

    def read(self, head: Head, body: bytes) -> tuple[OperationModel, Request]:  # noqa: ARG002 - the path was read
        """The operation is in the path, its members are the body."""
        operation = operation_model(self.service, self.operation)
        try:
            members = cbor.decode(body) if body else {}
        except ValueError as error:
            raise AwsError("SerializationException", f"The body is {error}.") from None
        if not isinstance(members, dict):
            raise AwsError("SerializationException", f"The body is a CBOR {type(members).__name__}. Send a map.")
        return operation, members

    def answer(self, operation: OperationModel, document: Mapping[str, Any]) -> Response:
        """The members as a CBOR map."""
        shape = operation.output_shape
        return self._response(cbor.encode(shaped(document, shape), shape), 200)

    def error(self, error: AwsError) -> Response:
        """The code is in `__type`."""
        return self._response(cbor.encode({"__type": error.code, "message": error.message}, _ERROR), error.status)

    def _response(self, body: bytes, status: int) -> Response:
        return Response(body, status, {**_request_id(), "smithy-protocol": "rpc-v2-cbor"}, "application/cbor")


@dataclass(frozen=True)
class RestWire:
    """REST with JSON: an endpoint's invocations, where most members are headers and the body is the payload."""

    service: str
    operation: str
    endpoint: str

    def read(self, head: Head, body: bytes) -> tuple[OperationModel, Request]:
        """The members from path, headers and body, each by its place in the model."""
        operation = operation_model(self.service, self.operation)
        members: Request = {"EndpointName": self.endpoint, "Body": body}
        for name, shape in operation.input_shape.members.items():
            value = head.headers.get(shape.serialization.get("name", ""))
            if shape.serialization.get("location") == "header" and value is not None:
                members[name] = int(value) if shape.type_name == "integer" and value.isdecimal() else value
        return operation, members

    def answer(self, operation: OperationModel, document: Mapping[str, Any]) -> Response:
        """Headers and payload; members with neither place are a JSON object."""
        shape = operation.output_shape
        headers, rest = _request_id(), {}
        for name, value in shaped(document, shape).items():
            place = shape.members[name].serialization
            if place.get("location") == "header":
                headers[place["name"]] = str(value)
            elif name != shape.serialization.get("payload"):
                rest[name] = value
        payload = document.get(shape.serialization.get("payload") or "", json.dumps(rest).encode())
        return Response(payload, int(operation.http.get("responseCode", 200)), headers)

    def error(self, error: AwsError) -> Response:
        """The code is in a header."""
        headers = {**_request_id(), "x-amzn-errortype": error.code}
        return Response(json.dumps(error_body(error)), error.status, headers, "application/json")


@dataclass(frozen=True)
class QueryWire:
    """The form-encoded protocol of STS with its XML answers, flat as they are here."""

    service: str

    def read(self, head: Head, body: bytes) -> tuple[OperationModel, Request]:  # noqa: ARG002 - all is in the body
        """The operation is `Action`."""
        try:
            members = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=100))
        except ValueError as error:
            raise AwsError("MalformedQueryString", f"The body is not a form: {error}.") from None
        members.pop("Version", None)
        return operation_model(self.service, members.pop("Action", "")), dict(members)

    def answer(self, operation: OperationModel, document: Mapping[str, Any]) -> Response:
        """The members as XML."""
        name = operation.name
        members = "".join(f"<{k}>{escape(str(v))}</{k}>" for k, v in shaped(document, operation.output_shape).items())
        result = f"<{name}Result>{members}</{name}Result>"
        return self._response(f'<{name}Response xmlns="{_STS_NAMESPACE}">{result}{_metadata()}</{name}Response>', 200)

    def error(self, error: AwsError) -> Response:
        """The code in XML."""
        side = "Sender" if error.status < 500 else "Receiver"
        text = f"<Type>{side}</Type><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        xml = f'<ErrorResponse xmlns="{_STS_NAMESPACE}"><Error>{text}</Error></ErrorResponse>'
        return self._response(xml, error.status)

    def _response(self, xml: str, status: int) -> Response:
        return Response(xml, status, _request_id(), "text/xml")


def wire_of(head: Head) -> Wire:
    """The form of a request, by its path and headers.

    Raises:
        AwsError: it is of no form that is spoken here.
    """
    target = head.headers.get("x-amz-target", "")
    prefix, _, operation = target.partition(".")
    if prefix in TARGETS:
        return JsonWire(TARGETS[prefix], operation)
    metrics = _CBOR_PATH.fullmatch(head.path)
    if metrics:
        return CborWire("cloudwatch", metrics[1])
    endpoint = _ENDPOINT_PATH.fullmatch(head.path)
    if endpoint and head.method == "POST":
        return RestWire("sagemaker-runtime", _INVOCATIONS[endpoint[2]], unquote(endpoint[1]))
    if head.path == "/" and head.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return QueryWire("sts")
    raise AwsError(
        "UnknownOperationException",
        f"{head.method} {head.path[:200]} (X-Amz-Target '{target[:200]}') is no request of the emulator. It answers "
        "SageMaker, its runtime, CloudWatch Logs, CloudWatch metrics and STS.",
        404,
    )


def error_wire(head: Head) -> Wire:
    """The form in which an error of any request can be told, whether the request has a form or none."""
    try:
        return wire_of(head)
    except AwsError:
        return JsonWire("sagemaker", "")


def _request_id() -> dict[str, str]:
    return {"x-amzn-RequestId": str(uuid.uuid4())}


def _metadata() -> str:
    return f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
