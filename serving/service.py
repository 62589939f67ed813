"""The model's life in the server: loading, ready, stopping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving import logs
from serving.errors import RequestError
from serving.pool import RETRY_AFTER_S, WorkerPool
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


class Service:
    """One model, its workers, and whether it can answer."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pool = WorkerPool(settings.workers, settings.queue_size)
        self.failure: Exception | None = None
        self.stopping = False
        self._handler: ImageHandler | None = None

    async def load(self) -> None:
        """Load the model and let every worker answer once; then the service is ready, or `failure` says why not."""
        start = time.perf_counter()
        try:
            handler = await asyncio.wrap_future(self.pool.submit(self._load))
            warm_ups = [self.pool.submit(handler.warm_up) for _ in range(self.settings.workers)]
            await asyncio.gather(*map(asyncio.wrap_future, warm_ups))
        except Exception as error:
            self.failure = error
            return
        self._handler = handler
        logs.event(
            "ready",
            model=handler.model_info(),
            device=str(handler.predictor.device),
            load_s=round(time.perf_counter() - start, 2),
        )

    def _load(self) -> ImageHandler:
        from serving.handler import ImageHandler  # imports torch: seconds, spent on a worker

        handler = ImageHandler()
        handler.initialize(RequestContext(system_properties={"model_dir": self.settings.model_dir}))
        return handler

    def ready_handler(self) -> ImageHandler:
        """The handler.

        Raises:
            RequestError: 503, the model is still loading.
        """
        if self._handler is None:
            raise RequestError(
                503,
                "loading",
                "The model is still loading. Ask /ping, and send again when it answers 200.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        return self._handler

    def check_health(self) -> None:
        """Return when new requests are welcome.

        Raises:
            RequestError: 503, loading or stopping.
        """
        self.ready_handler()
        if self.stopping:
            raise RequestError(503, "stopping", "The server is stopping and finishes what it has accepted.")
