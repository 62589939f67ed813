"""The other backend: handlers in the worker processes of multi-model-server, behind the same front."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from kennel.contract.errors import KennelError
from kennel.contract.files import write_json
from serving import logs
from serving.admission import RETRY_AFTER_S
from serving.backend import Call, Reply
from serving.backends.mms_model import MmsModel
from serving.backends.mms_process import LOAD_LIMIT_S, MmsProcess
from serving.backends.mms_wire import FAULT, HANDLER, PROBE, STATUS_HEADER, TASK_FILE, pack, read_report
from serving.errors import RequestError
from serving.settings import Settings

START_LIMIT_S = 60  # Java listens after 1 to 3 s; a cold disk takes longer
WATCH_S = 0.5
BACK_S = 3  # a worker that was killed is there again after 1 to 2 s
GONE_S = 30  # after which nobody expects it any more
RETRY_S = 0.3  # after which MMS knows which of its workers are dead; before, it might hand the request to another one
_POLL_S = 0.02
_UNLOAD_LIMIT_S = 15


class HandlerError(Exception):
    """The handler failed in another process. The last line of the traceback there, which is added as a note."""

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback.strip().rpartition("\n")[2])
        self.add_note(f"in a worker:\n{traceback}")


class MmsBackend:
    """See `Backend`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = MmsProcess(settings)
        self._models: dict[str, MmsModel] = {}
        self._numbers = itertools.count(1)
        self._failure: Exception | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start Java and wait until it listens."""
        begun = time.perf_counter()
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would write a line for each request
        self._process.start()
        self._inference, self._management = map(_client, (self._process.inference, self._process.management))
        await self._until_it_listens()
        self._watching = asyncio.create_task(self._watch())
        logs.event("mms_listening", folder=self._process.folder, s=round(time.perf_counter() - begun, 2))

    async def _until_it_listens(self) -> None:
        limit = time.monotonic() + START_LIMIT_S
        for client in (self._inference, self._management):
            while not await _listens(client):
                if ended := self._process.ended():
                    raise ended
                if time.monotonic() > limit:
                    raise KennelError(f"multi-model-server did not listen within {START_LIMIT_S} s. Start again.")
                await asyncio.sleep(_POLL_S)

    async def load(self, name: str, folder: Path) -> Mapping[str, Any]:
        """Let workers load an artifact and answer; the sentence of those that cannot is the native front's."""
        identity = f"m{next(self._numbers)}"
        workers = 1 if self._settings.multi_model else self._settings.workers
        model = MmsModel(identity, name, self._process.folder / identity, workers)
        task = {"folder": str(folder.resolve()), "settings": asdict(self._settings.model)}
        write_json(model.folder / TASK_FILE, task)
        registering = asyncio.ensure_future(self._register(model))
        registering.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, whoever waits for it
        try:
            report = await asyncio.wait_for(self._bring_up(model, registering), LOAD_LIMIT_S)
        except BaseException as error:
            await self._forget(model)
            registering.cancel()  # not before: its socket may be closing, and anyio reports that as an error of ours
            if isinstance(error, TimeoutError):
                raise KennelError(f"{folder} was not loaded within {LOAD_LIMIT_S} s. Take a faster machine.") from None
            raise
        self._models[name] = model
        return {key: report[key] for key in ("model", "engine", "device")}

    async def _bring_up(self, model: MmsModel, registering: asyncio.Future[None]) -> Mapping[str, Any]:
        """Wait for a model's workers; what they say of it."""
        report = await self._report(model, registering)
        await asyncio.wait({registering})
        registering.result()
        await asyncio.gather(*(self._probe(model) for _ in range(model.workers)))
        if not await asyncio.to_thread(model.look, report["listener"]):
            raise KennelError(f"The process that loaded model '{model.name}' is gone. Was there enough memory?")
        return report

    async def _register(self, model: MmsModel) -> None:
        parameters = {
            "url": model.identity,
            "model_name": model.identity,
            "handler": HANDLER,
            "initial_workers": str(model.workers),
            "synchronous": "true",
        }
        answer = await self._management.post("/models", params=parameters)
        if answer.status_code != HTTPStatus.OK:
            raise KennelError(
                f"multi-model-server did not start workers for model '{model.name}': {_said(answer)}. "
                "Its log has more. Was there enough memory?"
            )

    async def _report(self, model: MmsModel, registering: asyncio.Future[None]) -> Mapping[str, Any]:
        """What the workers wrote. MMS alone would call a model that failed loaded, and try again and again."""
        while (report := read_report(model.folder)) is None:
            if ended := self._process.ended():
                raise ended
            if registering.done() and registering.exception() is not None and read_report(model.folder) is None:
                registering.result()
            await asyncio.sleep(_POLL_S)
        if "error" in report:
            raise KennelError(report["error"])
        if "fault" in report:
            raise HandlerError(str(report["fault"]))
        return report

    async def _probe(self, model: MmsModel) -> None:
        if await self._ask(model, PROBE) is None:
            raise KennelError(
                f"A worker died when it first computed for model '{model.name}'. Was there enough memory?"
            )

    async def unload(self, name: str) -> None:
        """Let MMS forget a model, and see its processes gone."""
        await self._forget(self._models.pop(name))

    async def _forget(self, model: MmsModel) -> None:
        if model.processes:
            await asyncio.to_thread(model.look)
        with contextlib.suppress(httpx.HTTPError):
            await self._management.delete(f"/models/{model.identity}", timeout=_UNLOAD_LIMIT_S)
        model.kill()
        shutil.rmtree(model.folder, ignore_errors=True)

    async def answer(self, name: str, call: Call) -> Reply:
        """Hand the request to MMS when it is its turn. One that dies with its worker is tried once more.

        Raises:
            RequestError: 503, it died again.
            HandlerError: the handler failed at it.
        """
        model = self._models[name]
        async with model.places:
            work = asyncio.ensure_future(self._try_twice(model, pack(call)))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait({work})  # a worker has it, and its place is not free before
                raise

    async def _try_twice(self, model: MmsModel, body: bytes) -> Reply:
        start = time.monotonic()
        reply = await self._ask(model, body)
        if reply is None and time.monotonic() - start < self._settings.stuck_s:
            await asyncio.sleep(RETRY_S)
            reply = await self._ask(model, body)
        if reply is None:
            raise RequestError(
                503,
                "worker_died",
                f"The worker that had the request died, and so did the next one. Try again after {RETRY_AFTER_S} s.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        return reply

    async def _ask(self, model: MmsModel, body: bytes) -> Reply | None:
        """A worker's answer; None when there was none, as when it died."""
        url, kind = f"/predictions/{model.identity}", {"Content-Type": "application/octet-stream"}
        with model.request():
            try:
                answer = await self._inference.post(url, content=body, headers=kind)
            except httpx.TransportError as error:
                logs.event("no_answer", model_name=model.name, reason=repr(error))
                return None
        status = answer.headers.get(STATUS_HEADER)
        if status is None:
            logs.event("no_answer", model_name=model.name, reason=_said(answer))
            return None
        if status == FAULT:
            raise HandlerError(answer.text)
        return Reply(answer.content, int(status), answer.headers.get("content-type", ""))

    async def _watch(self) -> None:
        """Look after Java, the listeners and the workers until one of them fails for good."""
        while self._failure is None:
            await asyncio.sleep(WATCH_S)
            self._failure = self._process.ended()
            for model in tuple(self._models.values()):
                listening = await asyncio.to_thread(model.look)
                if self._models.get(model.name) is model and self._failure is None:
                    self._failure = _hopeless(model, listening)

    def problem(self) -> str | None:
        """A request that has been computed for too long, or workers that do not come back."""
        for model in self._models.values():
            if (longest := model.longest_s()) > self._settings.stuck_s:
                limit = self._settings.stuck_s
                return f"A worker has been busy with one request for {longest:.0f} s; the limit is {limit} s."
            if (short := model.short_s()) > BACK_S:
                return f"Workers of model '{model.name}' have been missing for {short:.0f} s."
        return None

    def failure(self) -> Exception | None:
        """Java or a listener is gone, or workers do not come back."""
        if self._failure is None and self._watching and self._watching.done() and not self._watching.cancelled():
            return self._watching.exception()  # type: ignore[return-value] # it is no SystemExit
        return self._failure

    def close(self) -> None:
        """Kill all processes."""
        if self._watching:
            self._watching.cancel()
        self._process.close()


def _client(address: Path) -> httpx.AsyncClient:
    """MMS's own limit ends requests that take too long."""
    transport = httpx.AsyncHTTPTransport(uds=str(address), limits=httpx.Limits(max_connections=None))
    return httpx.AsyncClient(transport=transport, base_url="http://mms", timeout=None, trust_env=False)  # noqa: S113


async def _listens(client: httpx.AsyncClient) -> bool:
    try:
        await client.get("/ping", timeout=5)
    except httpx.TransportError:
        return False
    return True


def _said(answer: httpx.Response) -> str:
    """The message of MMS's own JSON."""
    try:
        return f"{answer.status_code} {answer.json()['message']}"
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code)


def _hopeless(model: MmsModel, listening: bool) -> KennelError | None:
    if not listening:
        return KennelError(
            f"The process that starts the workers of model '{model.name}' is gone, and multi-model-server never starts "
            "another one. Start again."
        )
    if (short := model.short_s()) > GONE_S:
        return KennelError(f"Workers of model '{model.name}' have been missing for {short:.0f} s. Start again.")
    return None
