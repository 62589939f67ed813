"""The models of a server by name: which are in memory, who uses them, and who leaves when memory is short.

The routes' contract is SageMaker's: developer guide, "Custom Containers Contract for Multi-Model Endpoints".
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kennel.classifier.data.memory import available_bytes
from kennel.contract.errors import KennelError
from serving import logs
from serving.admission import RETRY_AFTER_S
from serving.backend import Backend
from serving.errors import RequestError

PAGE = 100  # models in one answer of the list
_LOAD_FACTOR = 2.5  # of the files' bytes while they are read: the file, the tensors, a copy in half precision
_RESERVE_BYTES = 64 * 1024 * 1024  # for requests


@dataclass
class Model:
    """One that was loaded and not unloaded since. It may have left memory for a while."""

    name: str
    folder: Path
    in_memory: bool = False
    failed: bool = False  # to load at all
    used: float = 0.0  # monotonic seconds
    users: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)  # set while nobody uses it

    def to_json(self) -> dict[str, Any]:
        """As the contract lists it."""
        return {"modelName": self.name, "modelUrl": str(self.folder)}


class Models:
    """All methods belong to the event loop's thread."""

    def __init__(
        self, backend: Backend, root: Path, *, max_models: int = 0, free_bytes: Callable[[], int] = available_bytes
    ) -> None:
        """No models yet.

        Args:
            backend: what loads them.
            root: the folder below which models that are asked for by a request must be.
            max_models: in memory at once; 0: as many as fit.
            free_bytes: what memory is left.
        """
        self._backend, self._root, self._max_models = backend, root, max_models
        self._free_bytes = free_bytes
        self._models: dict[str, Model] = {}
        self._leaving: set[str] = set()  # names that are not free yet
        self._changing = asyncio.Lock()  # one model comes or goes at a time: two would count the same free memory

    def __len__(self) -> int:
        return len(self._models)

    @property
    def in_memory(self) -> int:
        """How many could answer at once."""
        return sum(model.in_memory for model in self._models.values())

    async def load(self, name: str, folder: Path) -> Mapping[str, Any]:
        """Load a model; what it is, for the log.

        Raises:
            RequestError: 409, the name is taken; 507, no memory for it even after all idle models have left.
            KennelError: the folder cannot be served.
        """
        if name in self._models:
            raise RequestError(409, "model_loaded", f"There is a model '{name}' already. DELETE /models/{name} first.")
        if name in self._leaving:
            raise RequestError(
                409, "model_leaving", f"Model '{name}' still answers. Wait for the answer of its DELETE."
            )
        model = self._models[name] = Model(name, folder)
        model.unused.set()
        try:
            async with self._changing:
                return await self._bring_in(model)
        except BaseException:
            model.failed = True  # whoever waits for it must not bring it in behind everybody's back
            self._models.pop(name, None)
            raise

    def folder(self, url: Any) -> Path:
        """The folder that a request names.

        Raises:
            RequestError: 400, no folder, or one outside of the models' root. Nobody loads foreign files through here.
        """
        if not isinstance(url, str) or not url:
            raise RequestError(400, "invalid_url", "'url' must be the path of a model's folder, as a string.")
        folder, root = Path(url).resolve(), self._root.resolve()
        if not folder.is_relative_to(root):
            raise RequestError(400, "invalid_url", f"url '{url[:200]}' is not below {root}, where models are unpacked.")
        if not folder.is_dir():
            raise RequestError(400, "invalid_url", f"url '{url[:200]}' is no folder. Unpack the model there first.")
        return folder

    async def unload(self, name: str) -> None:
        """Forget a model once everyone who uses it has an answer.

        Raises:
            RequestError: 404, there is none of this name.
        """
        model = self._find(name)
        self._leaving.add(name)
        del self._models[name]
        try:
            await model.unused.wait()
            async with self._changing:
                if model.in_memory:
                    model.in_memory = False
                    await self._backend.unload(name)
        finally:
            self._leaving.discard(name)

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[Model]:
        """Count a request on a model, from before its body is read: unloading waits for it, and room is not made of it.

        Raises:
            RequestError: 404, there is none of this name.
        """
        model = self._find(name)
        model.users += 1
        model.unused.clear()
        model.used = time.monotonic()
        try:
            yield model
        finally:
            model.users -= 1
            model.used = time.monotonic()
            if not model.users:
                model.unused.set()

    async def bring_back(self, model: Model) -> None:
        """Have a model that is held in memory, if it had left.

        Raises:
            RequestError: 503, no memory to bring it back now; 500, its files have changed and cannot be served any
                more; 404, it could not be loaded at all.
        """
        if not model.in_memory:
            await self._bring_back(model)

    async def _bring_back(self, model: Model) -> None:
        async with self._changing:
            if model.in_memory:
                return
            if model.failed:
                self._find(model.name)
            try:
                await self._bring_in(model)
            except RequestError as error:
                raise RequestError(503, "no_memory", error.sentence, {"Retry-After": str(RETRY_AFTER_S)}) from None
            except KennelError as error:
                raise RequestError(500, "invalid_model", f"Model '{model.name}' cannot come back: {error}") from None

    async def _bring_in(self, model: Model) -> Mapping[str, Any]:
        needed = _needed_bytes(model.folder)
        while (shortage := self._shortage(needed)) and (idle := self._idle()):
            victim = min(idle, key=lambda one: one.used)
            victim.in_memory = False
            await self._backend.unload(victim.name)
            logs.event(
                "model_left", model_name=victim.name, idle_s=round(time.monotonic() - victim.used, 1), reason=shortage
            )
        if shortage:
            raise RequestError(507, "no_memory", f"No room for model '{model.name}': {shortage}. Unload another first.")
        info = await self._backend.load(model.name, model.folder)
        model.in_memory, model.used = True, time.monotonic()
        return info

    def _shortage(self, needed: int) -> str:
        """What is missing for one more model, in words; empty when nothing is."""
        if self._max_models and self.in_memory >= self._max_models:
            return f"{self.in_memory} models are in memory, and KENNEL_MAX_MODELS is {self._max_models}"
        left = self._free_bytes()
        if needed + _RESERVE_BYTES <= left:
            return ""
        return f"loading takes {needed / 1e6:.0f} MB, and {left / 1e6:.0f} MB are left"

    def _idle(self) -> list[Model]:
        return [model for model in self._models.values() if model.in_memory and not model.users]

    def _find(self, name: str) -> Model:
        if name not in self._models:
            raise RequestError(404, "model_not_found", f"There is no model '{name[:80]}'. POST /models loads one.")
        return self._models[name]

    def get(self, name: str) -> dict[str, Any]:
        """One that was loaded, as the contract lists it.

        Raises:
            RequestError: 404, there is none of this name.
        """
        return self._find(name).to_json()

    def page(self, token: str | None, limit: str | None) -> dict[str, Any]:
        """The list by name, at most `limit` models of it, from `token` on; `nextPageToken` is there when more follow.

        Raises:
            RequestError: 400, a limit that is none.
        """
        count = min(_limit(limit), PAGE)
        names = sorted(name for name in self._models if token is None or name >= token)
        page: dict[str, Any] = {"models": [self._models[name].to_json() for name in names[:count]]}
        if len(names) > count:
            page["nextPageToken"] = names[count]  # a name: models that come and go in between move nothing
        return page


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < 1:
        raise RequestError(400, "invalid_parameter", f"limit is '{text[:40]}'; give a whole number of at least 1.")
    return int(text)


def _needed_bytes(folder: Path) -> int:
    """Memory that loading a folder takes at its peak, by the size of its files."""
    try:
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise KennelError(f"Cannot read {folder}: {error.strerror}. Unpack the model there first.") from error
    return int(size * _LOAD_FACTOR)
