"""The models of one multi-model container: brought and loaded when they are first asked for, unloaded to make room.

Source: developer guide, "Custom Containers Contract for Multi-Model Endpoints"; API reference, MultiModelConfig.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kennel.emulator.containers.client import Answer, BrokenError, Connections, NotSentError
from kennel.emulator.containers.model_data import ModelData, bring
from kennel.emulator.errors import AwsError, ValidationError
from kennel.storage import StorageError, Uri, safe_name

MODEL_HEADER = "X-Amzn-SageMaker-Target-Model"
_LOAD_S = 60.0  # a client waits no longer for a model; the load goes on
_LOADED, _NO_MEMORY = 409, 507
_LIMIT_BYTES = 1 << 20
_NAME_CHARS = 32


class LoadError(Exception):
    """The container did not take a model."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"POST /models was answered {answer.status}")
        self.answer = answer


@dataclass(frozen=True)
class ModelPlace:
    """Where one container's models come from and go to."""

    prefix: Uri  # below it are the archives that requests name
    folder: Path  # here
    seen_dir: str  # the same folder, as the container calls it
    keeps: bool = True  # ModelCacheSetting: a model stays loaded after its request


@dataclass(eq=False)
class _Model:
    target: str  # as requests name it
    name: str  # as the container knows it
    users: int = 0
    used: float = 0.0
    is_loaded: bool = False
    loading: asyncio.Task[None] | None = field(default=None, repr=False)


class ModelCache:
    """What one container has loaded. Used from one event loop only, but for its making and `has`."""

    def __init__(
        self, place: ModelPlace, connections: Connections, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._place = place
        self._connections = connections
        self._clock = clock
        self._models: dict[str, _Model] = {}
        self._changing = asyncio.Lock()  # one model comes or goes at a time, so that a load meets no half-done unload

    def has(self, target: str) -> bool:
        """Whether a model is loaded."""
        model = self._models.get(target)
        return model is not None and model.is_loaded

    def forget(self, target: str) -> None:
        """The container says that it has not got it."""
        if target in self._models:
            self._models[target].is_loaded = False

    @contextlib.asynccontextmanager
    async def use(self, target: str) -> AsyncIterator[str]:
        """Have a model loaded while the block runs; gives the path of its invocations.

        Raises:
            AwsError: ValidationError, there is no such archive; ModelNotReadyException, it takes longer than a minute
                or all other models are in use.
            LoadError: the container refused it.
            NotSentError, BrokenError: the container does not answer.
        """
        model = self._models.setdefault(target, _Model(target, _name_of(target)))
        model.users += 1
        try:
            await self._ensure(model)
            yield f"/models/{model.name}/invoke"
        finally:
            model.users -= 1
            model.used = self._clock()
            if not self._place.keeps and not model.users and model.is_loaded:
                await self._unload(model)

    async def _ensure(self, model: _Model) -> None:
        if model.is_loaded:
            return
        if model.loading is None or model.loading.done():
            model.loading = asyncio.create_task(self._load(model))
            model.loading.add_done_callback(_look_at_error)
        try:
            async with asyncio.timeout(_LOAD_S):
                await asyncio.shield(model.loading)
        except TimeoutError:
            raise _not_ready(model, "it is being loaded") from None

    async def _load(self, model: _Model) -> None:
        await asyncio.to_thread(self._bring, model)
        async with self._changing:
            while True:
                answer = await self._post(model)
                if 200 <= answer.status < 300 or answer.status == _LOADED:
                    model.is_loaded = True
                    return
                if answer.status != _NO_MEMORY or not await self._make_room(model):
                    raise LoadError(answer)

    def _bring(self, model: _Model) -> None:
        try:
            archive = self._place.prefix.join(safe_name(model.target, self._place.prefix))
            bring(ModelData(archive, archive=True, prefix=False), self._place.folder / model.name / "model")
        except StorageError as error:
            raise ValidationError(f"Failed to download model data for TargetModel {model.target}: {error}") from error

    async def _post(self, model: _Model) -> Answer:
        body = json.dumps({"model_name": model.name, "url": f"{self._place.seen_dir}/{model.name}/model"}).encode()
        headers = {"Content-Type": "application/json", MODEL_HEADER: model.target}
        return await self._connections.post("/models", headers, body, _LIMIT_BYTES)

    async def _make_room(self, wanted: _Model) -> bool:
        """Unload the model that nobody has used for longest; False when the container has none at all.

        Raises:
            AwsError: ModelNotReadyException, all are in use.
        """
        known = {model.name: model for model in self._models.values()}
        names = [name for name in await self._listed() if name != wanted.name]
        idle = [name for name in names if name not in known or not known[name].users]
        if names and not idle:
            raise _not_ready(wanted, "the container has no memory left, and all other models are in use")
        if not idle:
            return False
        victim = min(idle, key=lambda name: known[name].used if name in known else 0.0)
        if victim in known:
            known[victim].is_loaded = False
        await self._delete(victim)
        return True

    async def _listed(self) -> list[str]:
        """The names of all models that the container has, those of an earlier emulator too."""
        names: list[str] = []
        page = ""
        while True:
            query = f"?next_page_token={quote(page, safe='')}" if page else ""
            answer = await self._connections.request("GET", f"/models{query}", {}, b"", _LIMIT_BYTES)
            try:
                listed: dict[str, Any] = json.loads(answer.body)
                found = [str(model["modelName"]) for model in listed["models"]]
            except (ValueError, KeyError, TypeError) as error:
                raise BrokenError(f"its answer to GET /models is not that of the contract: {error!r}") from None
            names += found
            page = str(listed.get("nextPageToken") or "")
            if not page or not found:
                return names

    async def _unload(self, model: _Model) -> None:
        async with self._changing:
            if model.users or not model.is_loaded:  # somebody came while this waited, or it had to make room
                return
            model.is_loaded = False
            with contextlib.suppress(NotSentError, BrokenError):  # the answer is there; the instance's watcher will see
                await self._delete(model.name)

    async def _delete(self, name: str) -> None:
        await self._connections.request("DELETE", f"/models/{name}", {}, b"", _LIMIT_BYTES)


def _name_of(target: str) -> str:
    """A name that can stand in a path, the same after every start."""
    return hashlib.sha256(target.encode()).hexdigest()[:_NAME_CHARS]


def _not_ready(model: _Model, why: str) -> AwsError:
    return AwsError("ModelNotReadyException", f"Model {model.target} is not ready: {why}. Try again.", 429)


def _look_at_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # told to whoever still waits; without a look asyncio would print it
