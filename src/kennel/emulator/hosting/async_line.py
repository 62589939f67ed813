"""The requests of one asynchronous endpoint on their way: waiting, with a container, answered, put in place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kennel.emulator.containers.client import BrokenError, NotSentError
from kennel.emulator.errors import AwsError, ModelError
from kennel.emulator.hosting.async_queue import ANSWER, FAILURE, Item, Outcome, Queue
from kennel.emulator.hosting.exchange import INVOCATIONS, Asker, Limits
from kennel.emulator.hosting.routes import Routes, Target
from kennel.emulator.state.shortages import passes, told
from kennel.storage import FILE, StorageError, Uri, storage_of

PAYLOAD_BYTES = 1 << 30  # of a request, as of its answer
_LOOK_S = 0.2  # for a free instance, and for requests that have waited too long
_TRIES = 3  # of a request that its container does not answer, for it may be the request that kills the container
_UNREACHED_S = 0.3  # until a dead instance is out of the route
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 60.0  # between tries to put an answer where it belongs
_BLOCK_BYTES = 1 << 20
_DEFAULT_TTL_S, _DEFAULT_INVOCATION_S = 21_600, 900
_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)


class Line:
    """One endpoint's. Made and used in the event loop that its requests are served in."""

    def __init__(self, endpoint: str, queue: Queue, routes: Routes, asker: Asker) -> None:
        self.queue = queue
        self._endpoint = endpoint
        self._routes = routes
        self._asker = asker
        self._waiting: deque[Item] = deque()
        self._tries: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._gone = ""  # why nobody will be asked any more
        self._task = asyncio.create_task(self._run())

    def add(self, item: Item) -> None:
        """Take on a request that its queue holds."""
        self._put(item, first=False)

    def deliver(self, outcome: Outcome) -> None:
        """Put an outcome where it belongs that an earlier server has left."""
        self._begin(self._deliver(outcome))

    def drop(self, why: str) -> None:
        """The endpoint ends: who waits is told so; what is with a container may still be answered."""
        self._gone = why
        while self._waiting:
            self._fail(self._waiting.popleft(), why)

    async def close(self, timeout_s: float) -> None:
        """Begin nothing more, and wait for what is under way; the queue keeps what is not done by then."""
        self._task.cancel()
        deadline = time.monotonic() + timeout_s
        while self._tasks and time.monotonic() < deadline:  # one may begin another
            await asyncio.wait(list(self._tasks), timeout=deadline - time.monotonic())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._task, *self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._step()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S if self._waiting else None):
                    await self._changed.wait()

    def _step(self) -> None:
        now_s = time.time()
        for item in [item for item in self._waiting if now_s > _expires_s(item)]:
            self._waiting.remove(item)
            self._fail(item, f"The request waited for more than {_ttl_s(item)} s (RequestTTLSeconds).")
        while self._waiting and (target := self._free()):
            self._begin(self._serve(self._waiting.popleft(), target))

    def _free(self) -> Target | None:
        try:
            return self._routes.take(self._endpoint)[1]
        except AwsError:  # all are busy, none is healthy now, or the endpoint is being taken up after a restart
            return None

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():  # the queue's files still have the request
            _LOG.error("Endpoint %s: a request met a fault of the emulator", self._endpoint, exc_info=task.exception())

    async def _serve(self, item: Item, target: Target) -> None:
        try:
            outcome = await self._ask(item, target)
        except Exception as error:  # whatever it is, who asked is told, and the others go on
            _LOG.exception("Endpoint %s: a request met a fault of the emulator", self._endpoint)
            reason = told(f"InternalServerError: {error!r}", error, self.queue.folder)
            outcome = None if passes(error) else (FAILURE, reason.encode())
            if outcome is None:  # what there is too little of now will come back
                await asyncio.sleep(_UNREACHED_S)
        finally:
            self._routes.release(target)
            self._changed.set()
        if outcome is None:
            self._put(item, first=True)
        else:
            await self._settle(item, *outcome)

    async def _ask(self, item: Item, target: Target) -> tuple[str, bytes] | None:
        """The kind of an outcome and its content; None when another instance is to be asked."""
        limits = Limits(float(item.request.get("InvocationTimeoutSeconds", _DEFAULT_INVOCATION_S)), PAYLOAD_BYTES)
        try:
            body = await asyncio.to_thread(self._payload, item)
            answer = await self._asker.ask(target, INVOCATIONS, item.request, body, limits)
            self._asker.require_success(target, answer)
        except (ModelError, StorageError) as error:
            if passes(error):
                raise
            return FAILURE, told(str(error), error, self.queue.folder).encode()
        except NotSentError as error:
            if passes(error):
                raise
            target.suspect()
            await asyncio.sleep(_UNREACHED_S)
            return None
        except BrokenError as error:
            self._tries[item.id] += 1
            is_last = self._tries[item.id] >= _TRIES
            return (FAILURE, str(self._asker.broken(target, error)).encode()) if is_last else None
        return ANSWER, answer.body

    def _payload(self, item: Item) -> Path:
        sent = self.queue.body(item)
        if sent:
            return sent
        uri = Uri.parse(item.request["InputLocation"])
        if uri.scheme == FILE and uri.file.is_file():
            _require_size(uri, uri.file.stat().st_size)
            return uri.file
        size, target = 0, self.queue.input(item)
        with storage_of(uri).open(uri) as source, target.open("wb") as copy:
            while block := source.read(_BLOCK_BYTES):
                size += len(block)
                _require_size(uri, size)
                copy.write(block)
        return target

    def _put(self, item: Item, *, first: bool) -> None:
        if self._gone:
            self._fail(item, self._gone)
        elif first:
            self._waiting.appendleft(item)
        else:
            self._waiting.append(item)
        self._changed.set()

    def _fail(self, item: Item, why: str) -> None:
        self._begin(self._settle(item, FAILURE, why.encode()))

    async def _settle(self, item: Item, kind: str, content: bytes) -> None:
        outcome = await self._until_done(item.id, lambda: self.queue.settle(item, kind, content))
        await self._deliver(outcome)

    async def _deliver(self, outcome: Outcome) -> None:
        await self._until_done(outcome.place, lambda: _put_in_place(outcome))
        self._tries.pop(outcome.item.id, None)
        await asyncio.to_thread(self.queue.forget, outcome.item)

    async def _until_done(self, what: str, action: Callable[[], _T]) -> _T:
        """Try until it succeeds, as when a disk has room again; what is not done when the server ends is begun anew."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await asyncio.to_thread(action)
            except (StorageError, OSError) as error:
                _LOG.warning("Endpoint %s: %s is tried again: %s", self._endpoint, what, error)
            await asyncio.sleep(pause_s)
            pause_s = min(_MAX_PAUSE_S, pause_s * 2)


def _put_in_place(outcome: Outcome) -> None:
    uri = Uri.parse(outcome.place)
    storage_of(uri).put(outcome.file, uri)


def _require_size(uri: Uri, size_bytes: int) -> None:
    if size_bytes > PAYLOAD_BYTES:
        raise StorageError(f"'{uri}' has more than {PAYLOAD_BYTES} bytes, which is the limit. Send less at once.")


def _ttl_s(item: Item) -> int:
    return int(item.request.get("RequestTTLSeconds", _DEFAULT_TTL_S))


def _expires_s(item: Item) -> float:
    return item.accepted_s + _ttl_s(item)
