"""InvokeEndpointAsync: requests are kept, taken one after the other, and their answers left where the client looks.

All endpoints share one event loop in a thread of its own, so that payloads of hundreds of megabytes do not hold up
who waits for an answer. Source: developer guide, "Asynchronous inference"; API reference, InvokeEndpointAsync.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Collection, Coroutine
from concurrent.futures import Future
from typing import Any

from kennel.emulator.errors import ValidationError
from kennel.emulator.hosting.async_line import Line
from kennel.emulator.hosting.async_queue import Item, Queue
from kennel.emulator.hosting.exchange import Asker
from kennel.emulator.hosting.routes import Route, Routes
from kennel.emulator.service_model import coverage
from kennel.emulator.state.home import Home, safe_name
from kennel.emulator.state.store import Document
from kennel.emulator.threads.loop_thread import LoopThread
from kennel.storage import StorageError, Uri
from kennel.storage import safe_name as safe_path

MAX_INVOCATION_S = 3600.0  # InvocationTimeoutSeconds at most
BODY_BYTES = 128_000  # of a payload that comes with the request, botocore's Body
_PER_INSTANCE = 4  # requests at a time, where the configuration leaves it to SageMaker
_CLOSE_S = 5.0  # an answer that is nearly there is waited for, so that nobody is asked twice
_AT_ONCE = 32  # files and objects that are read and written
_DELETED = "The endpoint was deleted before it had answered."


def per_instance(config: Document | None) -> int | None:
    """How many requests one instance of an endpoint answers at a time; None where it is not asynchronous."""
    if config is None:
        return None
    return int((config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance", _PER_INSTANCE))


class AsyncInference:
    """The waiting requests of all asynchronous endpoints. Methods may be called from any thread."""

    def __init__(self, home: Home, routes: Routes, asker: Asker) -> None:
        self._home = home
        self._routes = routes
        self._asker = asker
        self._lines: dict[str, Line] = {}  # touched in the loop only
        self._loop = LoopThread("async-inference", _AT_ONCE)

    async def invoke(self, request: Document) -> Document:
        """InvokeEndpointAsync, from any event loop.

        Raises:
            ValidationError: the endpoint is not there or not asynchronous, or there is not one payload.
        """
        coverage.accept("InvokeEndpointAsync", request)
        body = request.get("Body") or None
        item = self._item(self._routes.get(request["EndpointName"]), request, body)
        await asyncio.wrap_future(self._submit(self._accept(request["EndpointName"], item, body)))
        return {
            "InferenceId": item.request["InferenceId"],
            "OutputLocation": item.output,
            "FailureLocation": item.failure,
        }

    def _item(self, route: Route, request: Document, body: bytes | None) -> Item:
        _check(route, request, body)
        config = (route.asynchronous or {})["OutputConfig"]
        output = config.get("S3OutputPath") or (self._home.path / "async-output" / route.endpoint).as_uri()
        failure = config.get("S3FailurePath") or output
        below = [request["S3OutputPathExtension"].strip("/")] if "S3OutputPathExtension" in request else []
        name = request.get("Filename") or f"{uuid.uuid4()}.out"
        kept = {member: value for member, value in request.items() if member != "Body"}
        return Item(
            {"InferenceId": str(uuid.uuid4()), **kept},
            str(Uri.parse(output).join(*below, name)),
            str(Uri.parse(failure).join(*below, f"{name.removesuffix('.out')}-error.out")),
        )

    async def _accept(self, endpoint: str, item: Item, body: bytes | None) -> None:
        line = self._line(endpoint)
        await asyncio.to_thread(line.queue.add, item, body)
        line.add(item)

    def _line(self, endpoint: str) -> Line:
        if endpoint not in self._lines:
            queue = Queue(self._home.async_dir / safe_name(endpoint))
            self._lines[endpoint] = Line(endpoint, queue, self._routes, self._asker)
        return self._lines[endpoint]

    def recover(self, endpoints: Collection[str]) -> None:
        """Take up what an earlier server has left; who asked an endpoint that is gone is told so."""
        folders = [path for path in self._home.async_dir.glob("*") if path.is_dir()]
        self._submit(self._recover([path.name for path in folders], endpoints)).result()

    async def _recover(self, names: list[str], endpoints: Collection[str]) -> None:
        for name in names:
            line = self._line(name)
            waiting, outcomes = await asyncio.to_thread(line.queue.recover)
            for outcome in outcomes:
                line.deliver(outcome)
            for item in waiting:
                line.add(item)
            if name not in endpoints:
                line.drop(_DELETED)
                await self._end(name)

    def drop(self, endpoint: str) -> None:
        """The endpoint is being deleted: who waits is told so. It takes no requests any more."""
        self._submit(self._drop(endpoint)).result()

    async def _drop(self, endpoint: str) -> None:
        if endpoint in self._lines:
            self._lines[endpoint].drop(_DELETED)

    def end(self, endpoint: str) -> None:
        """Nothing of the endpoint runs any more: wait for the last outcomes, and forget its requests."""
        self._submit(self._end(endpoint)).result()

    async def _end(self, endpoint: str) -> None:
        line = self._lines.pop(endpoint, None)
        if line:
            await line.close(_CLOSE_S)
        await asyncio.to_thread(shutil.rmtree, self._home.async_dir / safe_name(endpoint), ignore_errors=True)

    def close(self) -> None:
        """Begin nothing more; what has no answer in a few seconds waits for the next server."""
        self._submit(self._close()).result()
        self._loop.close()

    async def _close(self) -> None:
        await asyncio.gather(*(line.close(_CLOSE_S) for line in self._lines.values()))

    def _submit(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return self._loop.submit(work)


def _check(route: Route, request: Document, body: bytes | None) -> None:
    if route.asynchronous is None:
        raise ValidationError(
            f"Endpoint {route.endpoint} is not asynchronous. Use InvokeEndpoint, or give its configuration an "
            "AsyncInferenceConfig."
        )
    if ("InputLocation" in request) == (body is not None):
        raise ValidationError("Send either InputLocation, the URI of the payload, or the payload itself as Body.")
    if body is not None and len(body) > BODY_BYTES:
        raise ValidationError(f"Body has {len(body)} bytes; {BODY_BYTES} are the limit. Send InputLocation instead.")
    try:
        if "InputLocation" in request:
            Uri.parse(request["InputLocation"])
        if "S3OutputPathExtension" in request:
            safe_path(request["S3OutputPathExtension"].strip("/"), Uri("s3", "", request["S3OutputPathExtension"]))
    except StorageError as error:
        raise ValidationError(str(error)) from None
