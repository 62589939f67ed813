"""The native backend: handlers in this process, a pool of worker threads for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.backend import Call, Reply
from serving.pool import WorkerPool
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.handler import ImageHandler


@dataclass
class RequestContext:
    """The handler's view of one request, in TorchServe's shape, and where it puts status and type of the answer."""

    headers: Mapping[str, str] = field(default_factory=dict)  # names are compared without case
    system_properties: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    content_type: str = ""

    def get_request_header(self, idx: int, key: str) -> str | None:  # noqa: ARG002 there is one request
        """A header, or None."""
        return self.headers.get(key)

    def set_response_content_type(self, idx: int, value: str) -> None:  # noqa: ARG002
        """Keep the answer's type."""
        self.content_type = value

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:  # noqa: ARG002
        """Keep the answer's status."""
        self.status = code


class NativeBackend:
    """See `Backend`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = WorkerPool(settings.workers)
        self._handlers: dict[str, ImageHandler] = {}

    async def start(self) -> None:
        """Import what handlers need."""
        await asyncio.wrap_future(self._pool.submit(_import_handler))

    async def load(self, name: str, folder: Path) -> Mapping[str, Any]:
        """Load an artifact and let every worker answer once."""
        handler = await asyncio.wrap_future(self._pool.submit(self._load, folder))
        warm_ups = [self._pool.submit(handler.warm_up) for _ in range(self._pool.workers)]
        await asyncio.gather(*map(asyncio.wrap_future, warm_ups))
        self._handlers[name] = handler
        return {
            "model": handler.model_info(),
            "engine": handler.engine.name,
            "device": str(handler.predictor.device),
        }

    def _load(self, folder: Path) -> ImageHandler:
        from serving.handler import ImageHandler  # imports torch: seconds, spent on a worker

        handler = ImageHandler(self._settings.model, streams=self._settings.workers)
        handler.initialize(RequestContext(system_properties={"model_dir": folder}))
        return handler

    async def unload(self, name: str) -> None:
        """Forget a handler; its memory goes with the last one who holds it."""
        self._handlers.pop(name).close()

    async def answer(self, name: str, call: Call) -> Reply:
        """Queue the request for the next free worker."""
        context = RequestContext(call.headers)
        job = self._pool.submit(self._handlers[name].handle, [{**call.query, "body": call.body}], context)
        done = asyncio.wrap_future(job)
        try:
            [body] = await asyncio.shield(done)
        except asyncio.CancelledError:
            if not job.cancel():
                await asyncio.wait({done})  # a worker has it, and its place is not free before
            raise
        return Reply(body, context.status, context.content_type)

    def problem(self) -> str | None:
        """A request that has been computed for too long."""
        longest = self._pool.longest_s()
        if longest <= self._settings.stuck_s:
            return None
        return f"A worker has been busy with one request for {longest:.0f} s; the limit is {self._settings.stuck_s} s."

    def failure(self) -> Exception | None:
        """Threads do not die alone."""
        return None

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


def _import_handler() -> None:
    import serving.handler  # noqa: F401 seconds, spent on a worker
