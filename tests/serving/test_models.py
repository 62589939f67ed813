"""Who leaves when memory is short, with memory that a test decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kennel.contract.errors import ArtifactError
from serving.backend import Call, Reply
from serving.errors import RequestError
from serving.models import Models

pytestmark = pytest.mark.pure

MB = 1_000_000
SIZE = 40 * MB  # of a model's files; loading takes two and a half times as much


class Memory:
    """A backend that takes memory for each model and does nothing with it."""

    def __init__(self, free: int) -> None:
        self.free, self.loaded, self.fails = free, [], False

    async def start(self) -> None: ...

    async def load(self, name: str, folder: Path) -> Mapping[str, Any]:  # noqa: ARG002
        await asyncio.sleep(0)
        if self.fails:
            raise ArtifactError("damaged")
        self.free -= SIZE
        self.loaded.append(name)
        return {}

    async def unload(self, name: str) -> None:
        self.free += SIZE
        self.loaded.remove(name)

    async def answer(self, name: str, call: Call) -> Reply:  # noqa: ARG002
        return Reply(b"", 200, "")

    def problem(self) -> str | None:
        return None

    def failure(self) -> Exception | None:
        return None

    def close(self) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(SIZE)
    return tmp_path


def models_with(memory: Memory, folder: Path) -> Models:
    return Models(memory, folder, free_bytes=lambda: memory.free)


@contextlib.asynccontextmanager
async def use(models: Models, name: str) -> AsyncIterator[None]:
    with models.hold(name) as model:
        await models.bring_back(model)
        yield


def test_models_stay_until_memory_is_short_and_then_the_one_idle_for_longest_leaves(folder):
    memory = Memory(280 * MB)  # room for three

    async def play() -> None:
        models = models_with(memory, folder)
        for name in "abc":
            await models.load(name, folder)
        async with use(models, "a"):
            pass
        await models.load("d", folder)
        assert memory.loaded == ["a", "c", "d"]
        assert (len(models), models.in_memory) == (4, 3)
        async with use(models, "c"), use(models, "a"), use(models, "d"):
            with pytest.raises(RequestError) as refused:
                await models.load("e", folder)
            assert (refused.value.status, refused.value.code) == (507, "no_memory")
            assert "loading takes 100 MB" in refused.value.sentence
            with pytest.raises(RequestError) as waiting:
                async with use(models, "b"):
                    pass
            assert (waiting.value.status, waiting.value.headers["Retry-After"]) == (503, "1")
        async with use(models, "b"):
            assert "b" in memory.loaded
        assert "e" not in [one["modelName"] for one in models.page(None, None)["models"]]

    asyncio.run(play())


def test_two_loads_at_once_do_not_count_the_same_memory(folder):
    memory = Memory(190 * MB)  # room for one

    async def play() -> None:
        models = models_with(memory, folder)
        async with asyncio.timeout(5):
            await asyncio.gather(models.load("a", folder), models.load("b", folder))
        assert len(memory.loaded) == 1
        with pytest.raises(RequestError) as twice:
            await models.load("a", folder)
        assert twice.value.status == 409

    asyncio.run(play())


def test_a_model_that_fails_to_load_leaves_no_trace(folder):
    memory = Memory(10_000 * MB)
    memory.fails = True

    async def play() -> None:
        models = models_with(memory, folder)
        with pytest.raises(ArtifactError):
            await models.load("a", folder)
        loading = asyncio.ensure_future(models.load("b", folder))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as unknown:
            async with use(models, "b"):
                pass
        assert unknown.value.status == 404
        with pytest.raises(ArtifactError):
            await loading
        memory.fails = False
        await models.load("a", folder)
        assert models.in_memory == 1

    asyncio.run(play())


def test_pages_by_name_skip_and_repeat_nothing_while_models_come_and_go(folder):
    memory = Memory(100_000 * MB)

    async def play() -> None:
        models = models_with(memory, folder)
        for name in "acegi":
            await models.load(name, folder)
        first = models.page(None, "2")
        await models.unload("a")
        await models.load("b", folder)
        second = models.page(first["nextPageToken"], "2")
        last = models.page(second["nextPageToken"], "2")
        names = [one["modelName"] for page in (first, second, last) for one in page["models"]]
        assert names == ["a", "c", "e", "g", "i"]
        assert "nextPageToken" not in last
        with pytest.raises(RequestError, match="limit is '0'"):
            models.page(None, "0")

    asyncio.run(play())
