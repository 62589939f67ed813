"""The routes of SageMaker's hosting contract: GET /ping and POST /invocations.

Source: Amazon SageMaker AI developer guide, "Custom Inference Code with Hosting Services".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from serving import codec
from serving.access import Exchange, RequestLog
from serving.errors import RequestError
from serving.service import RequestContext, Service

CLIENT_GONE = 499  # nginx's status for the log; nobody is there to receive it


def create_app(service: Service) -> ASGIApp:
    """The server's application; its lifespan loads the model while requests are already answered."""

    async def ping(_: Request) -> Response:
        service.check_health()
        return Response()

    async def invocations(request: Request) -> Response:
        return await _invoke(service, request)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.load())
        yield
        loading.cancel()
        service.pool.close()

    app = Starlette(
        routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])],
        exception_handlers={
            RequestError: _refuse,
            HTTPException: _refuse_route,
            ClientDisconnect: _note_disconnect,
            Exception: _apologise,
        },
        lifespan=lifespan,
    )
    return RequestLog(app, closing=lambda: service.stopping)


async def _invoke(service: Service, request: Request) -> Response:
    """Everything that the headers tell is refused before the body is read."""
    headers, query = request.headers, dict(request.query_params)
    handler = service.ready_handler()
    codec.check_accept(headers.get("accept"))
    codec.check_encoding(headers.get("content-encoding"))
    codec.media_type(headers.get("content-type"))
    codec.read_options(query, headers.get("x-amzn-sagemaker-custom-attributes"))
    limits = service.settings
    with service.pool.admit():
        body = await _read_body(request, limits.max_body_bytes, limits.body_timeout_s)
        context = RequestContext(headers)
        job = service.pool.submit(handler.handle, [{**query, "body": body}], context)
        [answer] = await _result(job, request)
    if context.status != 200:
        _exchange(request).error = json.loads(answer)["code"]
    return Response(answer, context.status, media_type=context.content_type)


async def _read_body(request: Request, limit: int, timeout_s: int) -> bytes:
    """The body, of which no more than `limit` bytes are ever held.

    Raises:
        RequestError: 413 by the announced or the real length, 408 when it takes too long.
        ClientDisconnect: the client went away.
    """
    too_large = RequestError(413, "body_too_large", f"The body is larger than the limit of {limit} bytes.")
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise RequestError(
            408, "body_timeout", f"The body was not complete after {timeout_s} s; {len(body)} bytes had arrived."
        ) from None
    return bytes(body)


async def _result(job: Future[list[bytes]], request: Request) -> list[bytes]:
    """The job's result; a client that goes away while its job waits takes the job out of the queue.

    Raises:
        ClientDisconnect: nobody waits for the result any more.
    """
    done = asyncio.wrap_future(job)
    gone = asyncio.ensure_future(request.receive())  # after the body, the only message left is the disconnect
    either: tuple[asyncio.Future[Any], ...] = (done, gone)
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        if not job.cancel():
            await asyncio.wait({done})  # a worker has it, and the request's slot is not free before
        raise ClientDisconnect
    finally:
        gone.cancel()


def _exchange(request: Request) -> Exchange:
    exchange: Exchange = request.scope["state"]["exchange"]
    return exchange


def _json(request: Request, error: RequestError) -> Response:
    _exchange(request).error = error.code
    return Response(codec.to_json(error.to_json()), error.status, error.headers, codec.JSON_TYPE)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 Starlette's type for handlers is wider than what it calls
    return _json(request, error)


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    sentence = f"There is no {request.method} {request.url.path} here; there are GET /ping and POST /invocations."
    return _json(request, RequestError(error.status_code, code, sentence, error.headers))


async def _note_disconnect(request: Request, _: Exception) -> Response:
    _exchange(request).error = "client_gone"
    return Response(status_code=CLIENT_GONE)


async def _apologise(request: Request, _: Exception) -> Response:
    sentence = f"The server failed at this request. Its log has the reason under {_exchange(request).request_id}."
    return _json(request, RequestError(500, "internal_error", sentence))
