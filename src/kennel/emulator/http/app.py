"""The API as an ASGI application: one way in for all services, and one place where errors become answers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

import kennel
from kennel.contract.paths import PAYLOAD_LIMIT_BYTES
from kennel.emulator.errors import AwsError, ValidationError, ValidationException
from kennel.emulator.http import request_log
from kennel.emulator.http.security import API_BODY_LIMIT_BYTES, Claim, Gate, Head
from kennel.emulator.http.wire import RestWire, Wire, error_wire, wire_of
from kennel.emulator.operations import OPERATIONS
from kennel.emulator.operations.context import Context
from kennel.emulator.service_model.coverage import accept
from kennel.emulator.service_model.protocol import validate
from kennel.emulator.service_model.query_tables import QUERIES
from kennel.emulator.state.shortages import shortage_of

_LINGER_S = 2  # how long a body that is too large is read and dropped, so that its sender reads the refusal
UNAVAILABLE = "ServiceUnavailable"  # AWS's common error; its clients try again by themselves
_SIGNING_NAMES = {"sagemaker-runtime": "sagemaker", "cloudwatch": "monitoring"}  # where they differ from botocore's


class App:
    """Answers every request of one server."""

    def __init__(self, context: Context, gate: Gate, payload_limit_bytes: int = PAYLOAD_LIMIT_BYTES) -> None:
        """Make one.

        Args:
            context: what the operations work with.
            gate: who is let in.
            payload_limit_bytes: of an invocation's body; that of every other request is 1 MiB.
        """
        self._context = context
        self._gate = gate
        self._payload_limit_bytes = payload_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"'{scope['type']}' is not served")
        start = time.perf_counter()
        response, notes = await self._answer(Request(scope, receive))
        if response is not None:
            await response(scope, receive, send)
        request_log.event(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=response.status_code if response is not None else 0,
            ms=round((time.perf_counter() - start) * 1000, 1),
            **notes,
        )

    async def _answer(self, request: Request) -> tuple[Response | None, dict[str, Any]]:
        """The answer, or None when the client has left; and what the log says beside it."""
        head = _head(request)
        wire = error_wire(head)
        notes: dict[str, Any] = {}
        try:
            self._gate.check_source(head.headers)
            if (head.method, head.path) == ("GET", "/"):
                introduction = self._gate.introduce(head.headers, self._context.home.path)
                return JSONResponse({"kennel": kennel.__version__, **introduction}), notes
            claim = self._gate.check_claim(head.headers)
            wire = wire_of(head)
            return await self._call(wire, claim, head, request, notes), notes
        except ClientDisconnect:
            return None, {**notes, "error": "the client left"}
        except AwsError as error:
            notes.update(error=error.code, message=error.message[:1000])
            return wire.error(error), notes
        except Exception as error:
            shortage = shortage_of(error, self._context.home.path)
            if shortage:
                notes.update(error=UNAVAILABLE, message=str(shortage))
                return wire.error(
                    AwsError(UNAVAILABLE, f"The local SageMaker cannot do this now. {shortage}", 503)
                ), notes
            request_log.fault("fault", error, path=head.path, **notes)
            message = f"The emulator failed: {type(error).__name__}. Its emulator.log has the traceback."
            return wire.error(AwsError("InternalFailure", message, 500)), {**notes, "error": "InternalFailure"}

    async def _call(self, wire: Wire, claim: Claim, head: Head, request: Request, notes: dict[str, Any]) -> Response:
        expected = _SIGNING_NAMES.get(wire.service, wire.service)
        if claim.service != expected:
            message = f"Credential should be scoped to correct service: '{expected}', not '{claim.service}'."
            raise AwsError("SignatureDoesNotMatch", message, 403)
        invocation = isinstance(wire, RestWire)
        body = await _read_body(request, self._payload_limit_bytes if invocation else API_BODY_LIMIT_BYTES)
        self._gate.check_signature(claim, head, body)
        operation, members = wire.read(head, body)
        notes["operation"] = operation.name
        if invocation:
            return wire.answer(operation, await self._invoke(operation, members))
        return wire.answer(operation, await run_in_threadpool(self._operate, wire.service, operation, members))

    def _operate(self, service: str, operation: Any, members: dict[str, Any]) -> dict[str, Any]:
        known = OPERATIONS[service]
        if operation.name not in known:
            message = f"{operation.name} is not emulated. Of this service there are {', '.join(known)}."
            raise AwsError("UnknownOperationException", message)
        validate(operation, members)
        if operation.name in QUERIES:  # the others know more that may be wrong, and tell it all at once
            _accept(service, operation.name, members)
        return known[operation.name](self._context, members)

    async def _invoke(self, operation: Any, members: dict[str, Any]) -> dict[str, Any]:
        hosting = self._context.hosting
        known = {"InvokeEndpoint": hosting.invoke, "InvokeEndpointAsync": hosting.invoke_async}
        if operation.name not in known:
            raise AwsError("UnknownOperationException", f"{operation.name} is not emulated. Use {' or '.join(known)}.")
        try:
            validate(operation, members)
        except ValidationException as error:
            raise ValidationError(error.message) from None
        return await known[operation.name](members)


def _accept(service: str, operation: str, members: dict[str, Any]) -> None:
    try:
        accept(operation, members)
    except ValidationException as error:
        raise (ValidationError(error.message) if service == "cloudwatch" else error) from None


def _head(request: Request) -> Head:
    scope = request.scope
    return Head(
        scope["method"], scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1"), request.headers
    )


async def _read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        AwsError: it is larger than it may be; HTTP 413.
    """
    chunks, size, more = [], 0, True
    while more:
        part = await request.receive()
        if part["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = part.get("body", b""), part.get("more_body", False)
        size += len(chunk)
        if size > limit_bytes:
            if more:  # after the last part nothing comes but the client's leave
                await _drop_rest(request)
            message = f"The body is larger than {limit_bytes} bytes, which is the limit. Send less at once."
            raise AwsError("RequestEntityTooLargeException", message, 413)
        chunks.append(chunk)
    return b"".join(chunks)


async def _drop_rest(request: Request) -> None:
    try:
        async with asyncio.timeout(_LINGER_S):
            while (await request.receive()).get("more_body", False):
                pass
    except TimeoutError:
        return
