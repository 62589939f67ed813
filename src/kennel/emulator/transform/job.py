"""The life of one batch transform job, in a thread of its own.

Nothing of it but the ledger outlives the server: after a restart the containers are started anew, and the objects that
are not in the ledger are sent. An output is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kennel.emulator.containers.client import Connections
from kennel.emulator.containers.container import CancelledError, Serve, ServeContainer, ServeError
from kennel.emulator.runners.base import TRANSFORM_LABEL, Runner, RunnerError
from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import TRANSFORM_LOGS
from kennel.emulator.state.shortages import Patience, passes, told
from kennel.emulator.state.store import Document, MissingError, Store
from kennel.emulator.threads.loop_thread import LoopThread
from kennel.emulator.training.channels import Channel
from kennel.emulator.training.inputs import list_items
from kennel.emulator.transform.assembling import output_uri
from kennel.emulator.transform.client import AbandonedError, InvocationError, TransformClient
from kennel.emulator.transform.instance import EndedError, TransformInstance
from kennel.emulator.transform.ledger import Ledger
from kennel.emulator.transform.settings import Limits, TransformSettings
from kennel.storage import FILE, Item, StorageError

KIND = "transform-job"
ENDED = ("Completed", "Failed", "Stopped")
MODEL = "_model"  # the job's private copy of the model's document, which may be deleted meanwhile
_REASON_CHARS = 1024
_STOP_GRACE_S = 2.0  # a container without requests has nothing to finish


class JobError(Exception):
    """The whole job fails; the message is its FailureReason."""


@dataclass(frozen=True)
class TransformTools:
    """What all jobs share."""

    store: Store
    home: Home
    runner: Runner
    region: str
    loop: LoopThread  # of the connections to all containers


@dataclass
class _Instance:
    container: ServeContainer
    data_log: str  # stream
    client: TransformClient | None = field(default=None)


class TransformJob:
    """One job from its document to its last status."""

    def __init__(self, name: str, tools: TransformTools, leaving: threading.Event) -> None:
        self.name = name
        self._tools = tools
        self._leaving = leaving
        self._abandoned = threading.Event()  # nobody wants further answers
        self._folder = tools.home.transform_dir(name)
        self._ledger = Ledger(self._folder, Patience(leaving, self._folder))
        self._instances: list[_Instance] = []

    def wake(self) -> None:
        """The document says Stopping, or the server leaves: let go of everything."""
        self._abandoned.set()

    def run(self) -> None:
        """Live until the job has ended, the server leaves or the job's document is gone."""
        with contextlib.suppress(MissingError):
            document = self._tools.store.get(KIND, self.name)
            if document["TransformJobStatus"] in ENDED:
                return
            reason: str | None
            try:
                going_on = document["TransformJobStatus"] == "InProgress"
                reason = self._transform(document) if going_on else self._let_go()
            except (AbandonedError, CancelledError):
                reason = None
            except JobError as error:
                if passes(error):
                    raise
                reason = told(str(error), error, self._folder)
            finally:
                self._stop_instances()
            if not self._leaving.is_set():
                self._end(reason)

    def fail(self, reason: str) -> None:
        """End it as Failed."""
        with contextlib.suppress(MissingError):
            self._end(reason)

    def _transform(self, document: Document) -> str | None:
        """Do what is not done; why the job has failed, or None."""
        try:
            settings = TransformSettings.of(document)
            items = self._items(settings)
            if len(self._ledger.done()) == len(items):  # a kill came between the last output and the end
                return _failure(self._ledger, len(items))
            self._start_instances(document, settings)
            limits = self._settle_limits(settings)
        except (StorageError, OSError) as error:
            raise JobError(f"ClientError: {error}") from error
        except (ServeError, RunnerError) as error:
            raise JobError(f"AlgorithmError: the model's container does not serve: {error}") from error
        except (InvocationError, ValueError) as error:
            raise JobError(f"AlgorithmError: {error}") from error
        self._send(settings, limits, items)
        return _failure(self._ledger, len(items))

    def _let_go(self) -> str | None:
        """Nothing is left to do but to end what an earlier server started."""
        with contextlib.suppress(RunnerError):  # no engine now: the next start of the server finds it
            self.clear()
        return None

    def _items(self, settings: TransformSettings) -> list[Item]:
        """The objects, listed once in the job's life; without what a kill left half written of their outputs."""
        known = self._ledger.items()
        if known is not None:
            done = self._ledger.done()
            for item in known:
                if item.name not in done:
                    _remove_partial(settings.output_path, item.name)
            return known
        found = list_items(Channel("transform", settings.input_uri, settings.data_type))
        if not found:
            raise StorageError(f"there is nothing under '{settings.input_uri}'. Correct S3Uri.")
        self._ledger.keep_items(found)
        return found

    # ---- containers -----------------------------------------------------------------------------------------------

    def _start_instances(self, document: Document, settings: TransformSettings) -> None:
        self.clear()
        for rank in range(settings.instances):
            instance = self._instance(document, settings, rank)
            self._instances.append(instance)
            self._check()
            instance.container.start()
        for instance in self._instances:
            instance.container.wait_until_healthy(self._abandoned.is_set)
            instance.client = self._client(instance, settings)
        now_s = time.time()
        self._change(lambda d: d.setdefault("TransformStartTime", now_s))

    def _instance(self, document: Document, settings: TransformSettings, rank: int) -> _Instance:
        digest = hashlib.sha256(f"{self.name} {rank}".encode()).hexdigest()[:17]
        stream = f"{self.name}/i-{digest}-{int(time.time())}"
        spec = Serve(
            name=f"transform-{self.name}-{rank + 1}",
            model=document[MODEL],
            folder=self._folder / f"instances/{rank}",
            model_dir=self._folder / "model",
            log_file=self._tools.home.logs.file(TRANSFORM_LOGS, stream),
            region=self._tools.region,
            labels={TRANSFORM_LABEL: self.name},
            environ=settings.variables,
        )
        return _Instance(ServeContainer(self._tools.runner, spec), f"{stream}/data-log")

    def _client(self, instance: _Instance, settings: TransformSettings) -> TransformClient:
        return TransformClient(
            self._tools.loop,
            Connections(*instance.container.address()),
            headers=settings.headers,
            timeout_s=settings.timeout_s,
            retries=settings.retries,
            abandoned=self._abandoned,
            ended=instance.container.ended,
            note=lambda problem: self._log(instance, f"An invocation failed: {problem}"),
        )

    def _settle_limits(self, settings: TransformSettings) -> Limits:
        client = self._instances[0].client
        told: dict[str, Any] = client.execution_parameters() if client and settings.asks_container else {}
        limits = settings.limits(told)
        for instance in self._instances:
            self._log(instance, str(limits))
        return limits

    def clear(self) -> None:
        """End what an earlier server started.

        Raises:
            RunnerError: the engine does not answer.
        """
        for handle in self._tools.runner.find(TRANSFORM_LABEL, self.name):
            self._tools.runner.remove(handle)
        shutil.rmtree(self._folder / "instances", ignore_errors=True)
        shutil.rmtree(self._folder / "scratch", ignore_errors=True)

    def _stop_instances(self) -> None:
        self._abandoned.set()
        for instance in self._instances:
            if instance.client:
                instance.client.close()
            instance.container.stop(_STOP_GRACE_S)

    # ---- objects --------------------------------------------------------------------------------------------------

    def _send(self, settings: TransformSettings, limits: Limits, items: Sequence[Item]) -> None:
        """Every instance its share: what is not done of each n-th object."""
        done = self._ledger.done()
        count = len(self._instances)
        with ThreadPoolExecutor(count) as pool:
            shares = []
            for rank, instance in enumerate(self._instances):
                mine = [item for item in items[rank::count] if item.name not in done]
                shares.append(pool.submit(self._send_share, settings, limits, instance, mine, rank))
        errors = [error for error in (share.exception() for share in shares) if error]
        for error in errors:  # an instance that ends makes the others give up
            if isinstance(error, EndedError):
                raise JobError(f"AlgorithmError: {error}") from error
        if errors:
            raise errors[0]

    def _send_share(
        self, settings: TransformSettings, limits: Limits, instance: _Instance, items: Sequence[Item], rank: int
    ) -> None:
        assert instance.client is not None  # noqa: S101 - made when it was healthy
        one = TransformInstance(
            instance.client,
            settings=settings,
            splitting=limits.splitting(settings.split),
            concurrent=limits.concurrent,
            ledger=self._ledger,
            scratch=self._folder / f"scratch/{rank}",
            report=lambda line: self._log(instance, line),
        )
        try:
            one.run(items, self._check)
        except BaseException:  # whatever it is: the other instances must not go on for a job that has failed
            self._abandoned.set()
            raise

    def _check(self) -> None:
        if self._abandoned.is_set():
            raise AbandonedError

    def _log(self, instance: _Instance, line: str) -> None:
        self._tools.home.logs.note(TRANSFORM_LOGS, instance.data_log, [f"[sagemaker logs]: {line}"])

    # ---- the document ---------------------------------------------------------------------------------------------

    def _end(self, reason: str | None) -> None:
        now_s = time.time()

        def change(document: Document) -> None:
            stopping = document["TransformJobStatus"] == "Stopping"
            document["TransformJobStatus"] = "Stopped" if stopping else "Failed" if reason else "Completed"
            document |= {"TransformEndTime": now_s, "LastModifiedTime": now_s}
            if reason and not stopping:
                document["FailureReason"] = reason[:_REASON_CHARS]

        self._change(change)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _change(self, change: Callable[[Document], object]) -> None:
        self._tools.store.update(KIND, self.name, lambda document: (change(document), None)[1])


def _remove_partial(output_path: str, name: str) -> None:
    """Remove the copies beside an output that never took its place."""
    target = output_uri(output_path, name)
    if target.scheme == FILE:
        folder: Path = target.file.parent
        prefix = f".{target.file.name}."
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.startswith(prefix) and path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)


def _failure(ledger: Ledger, count: int) -> str | None:
    """The first object that failed and why, and how many others did."""
    failures = {name: reason for name, reason in ledger.done().items() if reason}
    if not failures:
        return None
    name, reason = next(iter(failures.items()))
    kind, _, detail = reason.partition(": ")
    wrote = f"{len(failures)} of {count} objects failed; the outputs of the others are written."
    text = f"{kind}: '{name}': {detail.removesuffix('.')}"
    return f"{text[: _REASON_CHARS - len(wrote) - 2]}. {wrote}"
