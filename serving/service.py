"""The server's life behind its routes: loading, ready, stopping, and why it must end."""

from __future__ import annotations

import sys
import time

from kennel.classifier.data.memory import available_bytes
from serving import logs
from serving.admission import RETRY_AFTER_S, Admission
from serving.backend import Backend, Call, Reply
from serving.errors import RequestError
from serving.models import Model, Models
from serving.settings import Settings

ONLY = "model"  # the name of the model of a server that has one
_PROCESS_BYTES = 400 * 1024 * 1024  # multi-model-server starts a Python with torch for every model, beside its weights


def create_backend(settings: Settings) -> Backend:
    """What the front that was chosen computes with; its modules are imported only then.

    Raises:
        ConfigError: it needs packages or programs that are missing.
    """
    if settings.front == "mms":
        from serving.backends.mms_process import check_installed

        check_installed()
        from serving.backends.mms import MmsBackend

        return MmsBackend(settings)
    from serving.backends.native import NativeBackend

    return NativeBackend(settings)


class Service:
    """Models, those who compute for them, and whether they can answer."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.backend = create_backend(settings)
        self.models = Models(
            self.backend, settings.models_dir, max_models=settings.max_models, free_bytes=self._free_bytes
        )
        self.admission = Admission(settings.workers + settings.queue_size)
        self.stopping = False
        self.ready = False
        self._failure: Exception | None = None

    def _free_bytes(self) -> int:
        if not self.settings.multi_model:
            return sys.maxsize  # nobody could leave for the one model: it is tried, whatever an estimate says
        return max(0, available_bytes() - (_PROCESS_BYTES if self.settings.front == "mms" else 0))

    @property
    def failure(self) -> Exception | None:
        """Why the server must end; None while it need not."""
        return self._failure or self.backend.failure()

    async def load(self) -> None:
        """Make ready: load the one model, or none yet on a multi-model endpoint. Else `failure` says why not."""
        start = time.perf_counter()
        try:
            await self.backend.start()
            only = {} if self.settings.multi_model else await self.models.load(ONLY, self.settings.model_dir)
        except Exception as error:
            self._failure = error
            return
        self.ready = True
        logs.event("ready", **only, load_s=round(time.perf_counter() - start, 2))

    async def answer(self, model: Model, call: Call) -> Reply:
        """Let a model that is held answer.

        Raises:
            RequestError: 503, it cannot be brought into memory.
        """
        await self.models.bring_back(model)
        return await self.backend.answer(model.name, call)

    def check_ready(self) -> None:
        """Return when requests can be taken.

        Raises:
            RequestError: 503, the model is still loading.
        """
        if not self.ready:
            raise RequestError(
                503,
                "loading",
                "The model is still loading. Ask /ping, and send again when it answers 200.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )

    def check_health(self) -> None:
        """Return when new requests are welcome.

        Raises:
            RequestError: 503, loading, stopping, or a worker that does not come back.
        """
        self.check_ready()
        if self.stopping:
            raise RequestError(503, "stopping", "The server is stopping and finishes what it has accepted.")
        if problem := self.backend.problem():
            raise RequestError(503, "stuck", problem)
