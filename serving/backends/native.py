"""The native backend: handlers in this process, a pool of worker threads for all of them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.backend import Call, Reply
from serving.backends.pool import WorkerPool
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.handler.handler import ImageHandler


class RequestContext:
    """The handler's view of a batch of requests, in TorchServe's shape; keeps each answer's status and type."""

    def __init__(
        self,
        headers: Sequence[Mapping[str, str]] = (),
        system_properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Names of headers are compared without case by whoever made them."""
        self.headers = headers
        self.system_properties = system_properties or {}
        self.statuses = [200] * len(headers)
        self.content_types = [""] * len(headers)

    def get_request_header(self, idx: int, key: str) -> str | None:
        """A header, or None."""
        return self.headers[idx].get(key)

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Keep an answer's type."""
        self.content_types[idx] = value

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:  # noqa: ARG002
        """Keep an answer's status."""
        self.statuses[idx] = code


def answer_all(handler: ImageHandler, calls: Sequence[Call]) -> list[Reply]:
    """Let a handler answer requests as one batch."""
    context = RequestContext([call.headers for call in calls])
    bodies = handler.handle([{**call.query, "body": call.body} for call in calls], context)
    return [Reply(*parts) for parts in zip(bodies, context.statuses, context.content_types, strict=True)]


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
        from serving.handler.handler import ImageHandler  # imports torch: seconds, spent on a worker

        handler = ImageHandler(self._settings.model, streams=self._settings.workers)
        handler.initialize(RequestContext(system_properties={"model_dir": folder}))
        return handler

    async def unload(self, name: str) -> None:
        """Forget a handler; its memory goes with the last one who holds it."""
        self._handlers.pop(name).close()

    async def answer(self, name: str, call: Call) -> Reply:
        """Queue the request for the next free worker."""
        handler = self._handlers[name]
        run = functools.partial(answer_all, handler)
        if call.light:
            job = self._pool.submit_joint(run, call, kind=handler, together=handler.together)
        else:
            job = self._pool.submit_joint(run, call, kind=None, together=1)
        done = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not job.cancel():
                await asyncio.wait({done})  # a worker has it, and its place is not free before
            raise

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
    import serving.handler.handler  # noqa: F401 seconds, spent on a worker
