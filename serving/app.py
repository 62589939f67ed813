"""The routes of SageMaker's contracts for hosting, batch transform and multi-model endpoints, and /metrics.

Sources: Amazon SageMaker AI developer guide, "Custom Inference Code with Hosting Services", "... with Batch Transform",
"Custom Containers Contract for Multi-Model Endpoints".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kennel.contract.errors import KennelError
from serving import logs
from serving.access import Exchange, RequestLog
from serving.backend import RECEIVED_HEADER, Call, Reply
from serving.errors import RequestError
from serving.handler import media
from serving.handler.answers import to_json
from serving.handler.options import read_options
from serving.metrics import CONTENT_TYPE, Metrics
from serving.service import ONLY, Service

CLIENT_GONE = 499  # nginx's status for the log; nobody is there to receive it
_MIB = 1024 * 1024
_PASSED = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")
_REQUEST_BODY_BYTES = 64 * 1024  # POST /models names a folder and no more


class Front:
    """The server's routes over one service."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self.service = service
        self.metrics = metrics
        common = [
            Route("/ping", self.ping),
            Route("/metrics", self.show_metrics),
            Route("/execution-parameters", self.execution_parameters),
        ]
        one = [Route("/invocations", self.invoke, methods=["POST"])]
        many = [
            Route("/models", self.list_models, methods=["GET"]),
            Route("/models", self.load_model, methods=["POST"]),
            Route("/models/{name}", self.get_model, methods=["GET"]),
            Route("/models/{name}", self.unload_model, methods=["DELETE"]),
            Route("/models/{name}/invoke", self.invoke, methods=["POST"]),
        ]
        self.routes = common + (many if service.settings.multi_model else one)

    async def ping(self, _: Request) -> Response:
        """200 when a request would be answered."""
        self.service.check_health()
        return Response()

    async def show_metrics(self, _: Request) -> Response:
        """Prometheus's text."""
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def execution_parameters(self, _: Request) -> Response:
        """What a batch transform may send at once."""
        settings = self.service.settings
        return _json_response(
            {
                "MaxConcurrentTransforms": settings.workers,
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": max(1, settings.max_body_bytes // _MIB),
            }
        )

    async def invoke(self, request: Request) -> Response:
        """Everything that the headers tell is refused before the body is read."""
        headers, query = request.headers, dict(request.query_params)
        self.service.check_ready()
        name = request.path_params.get("name", ONLY)
        self.service.models.get(name)
        media.check_encoding(headers.get("content-encoding"))
        kind = media.media_type(headers.get("content-type"))
        media.answer_type(headers.get("accept"), kind)
        options = read_options(query, headers.get("x-amzn-sagemaker-custom-attributes"))
        limits = self.service.settings
        received = str(time.monotonic_ns())
        with self.service.admission.admit(), self.service.models.hold(name) as model:
            body = await _read_body(request, limits.max_body_bytes, limits.body_timeout_s)
            passed = {**{one: headers[one] for one in _PASSED if one in headers}, RECEIVED_HEADER.lower(): received}
            call = Call(body, passed, query, light=kind in media.ONE_IMAGE and not options.explain)
            answer = self.service.answer(model, call)
            reply = await _reply(asyncio.ensure_future(answer), request)
        if reply.status != 200:
            _exchange(request).error = json.loads(reply.body)["code"]
        return Response(reply.body, reply.status, headers={"Content-Type": reply.content_type})

    async def list_models(self, request: Request) -> Response:
        """The models by name, in pages."""
        query = request.query_params
        return _json_response(self.service.models.page(query.get("next_page_token"), query.get("limit")))

    async def get_model(self, request: Request) -> Response:
        """One model, or 404."""
        return _json_response(self.service.models.get(request.path_params["name"]))

    async def load_model(self, request: Request) -> Response:
        """Load a model by name: 200, 409 when the name is taken, 507 when there is no room."""
        self.service.check_ready()
        name, url = _read_load(await _read_body(request, _REQUEST_BODY_BYTES, self.service.settings.body_timeout_s))
        folder = self.service.models.folder(url)
        start = time.perf_counter()
        try:
            info = await self.service.models.load(name, folder)
        except KennelError as error:
            raise RequestError(400, "invalid_model", str(error)) from None
        seconds = round(time.perf_counter() - start, 2)
        logs.event("model_loaded", model_name=name, target=request.headers.get("x-amzn-sagemaker-target-model"),
                   **info, load_s=seconds)  # fmt: skip
        return _json_response(self.service.models.get(name))

    async def unload_model(self, request: Request) -> Response:
        """Forget a model when its last request is answered; 404 when there is none."""
        name = request.path_params["name"]
        await self.service.models.unload(name)
        logs.event("model_unloaded", model_name=name)
        return _json_response({})


def create_app(service: Service) -> ASGIApp:
    """The server's application; its lifespan loads the model while requests are already answered."""
    metrics = Metrics(service)
    front = Front(service, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.load())
        yield
        loading.cancel()
        service.backend.close()

    app = Starlette(
        routes=front.routes,
        exception_handlers={
            RequestError: _refuse,
            HTTPException: _refuse_route,
            ClientDisconnect: _note_disconnect,
            Exception: _apologise,
        },
        lifespan=lifespan,
    )
    return RequestLog(app, closing=lambda: service.stopping, observe=metrics.observe)


def _read_load(body: bytes) -> tuple[str, Any]:
    """Name and url of a model that is to be loaded."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("model_name"), str) or not value["model_name"]:
        raise RequestError(400, "invalid_json", 'Send {"model_name": "<name>", "url": "<folder>"}.')
    if "/" in value["model_name"]:
        raise RequestError(
            400, "invalid_json", f"model_name '{value['model_name'][:80]}' has a slash, which no path can."
        )
    return value["model_name"], value.get("url")


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


async def _reply(answer: asyncio.Future[Reply], request: Request) -> Reply:
    """The answer; a client that goes away while its request waits takes the request out of the queue.

    Raises:
        ClientDisconnect: nobody waits for the answer any more.
    """
    gone = asyncio.ensure_future(request.receive())  # after the body, the only message left is the disconnect
    either: tuple[asyncio.Future[Any], ...] = (answer, gone)
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        await asyncio.wait({answer})
        raise ClientDisconnect
    finally:
        gone.cancel()


def _exchange(request: Request) -> Exchange:
    exchange: Exchange = request.scope["state"]["exchange"]
    return exchange


def _json_response(value: Any) -> Response:
    return Response(to_json(value), media_type=media.JSON)


def _json(request: Request, error: RequestError) -> Response:
    _exchange(request).error = error.code
    return Response(to_json(error.to_json()), error.status, error.headers, media.JSON)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 Starlette's type for handlers is wider than what it calls
    return _json(request, error)


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    routes = ", ".join(f"{'/'.join(sorted((route.methods or set()) - {'HEAD'}))} {route.path}" for route in
                       request.app.routes)  # fmt: skip
    sentence = f"There is no {request.method} {request.url.path[:200]} here; there are {routes}."
    return _json(request, RequestError(error.status_code, code, sentence, error.headers))


async def _note_disconnect(request: Request, _: Exception) -> Response:
    _exchange(request).error = "client_gone"
    return Response(status_code=CLIENT_GONE)


async def _apologise(request: Request, _: Exception) -> Response:
    sentence = f"The server failed at this request. Its log has the reason under {_exchange(request).request_id}."
    return _json(request, RequestError(500, "internal_error", sentence))
