"""The life of one endpoint, in a thread of its own: it makes what runs equal to what the document wants.

Every step is written to the store, so that a new process goes on anywhere: what runs is found by its labels, what does
not run is started, and a start or an end that was cut short is begun again.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.emulator.containers.container import STARTUP_S, Serve
from kennel.emulator.documents import endpoint as deployments
from kennel.emulator.documents.endpoint import (
    CREATING,
    CURRENT,
    DELETING,
    FAILED,
    IN_SERVICE,
    KIND,
    NEXT,
    OUT_OF_SERVICE,
    REASON_CHARS,
    ROLLING_BACK,
    SCALED_FROM,
    UPDATING,
    Key,
)
from kennel.emulator.hosting.async_inference import MAX_INVOCATION_S, AsyncInference, per_instance
from kennel.emulator.hosting.instance import DRAIN_S, HEALTHY, UNHEALTHY, Instance, Shared
from kennel.emulator.hosting.instance import FAILED as INSTANCE_FAILED
from kennel.emulator.hosting.routes import Route, Routes, VariantRoute
from kennel.emulator.runners.base import ENDPOINT_LABEL, Runner
from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import ENDPOINT_LOGS, WARNING_LOGS
from kennel.emulator.state.shortages import shortage_of
from kennel.emulator.state.store import Document, MissingError, Store

INSTANCE_LABEL = "kennel.instance"  # its Key
_LOOK_S = 2.0  # without being told that something has changed
_GIVE_UP_FAILURES = 3  # of every instance in a row, then the endpoint is out of service
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tools:
    """What all endpoints share."""

    store: Store
    home: Home
    runner: Runner
    region: str
    routes: Routes
    waiting: AsyncInference


class EndpointLife:
    """One endpoint, from its document's creation to its deletion."""

    def __init__(self, name: str, tools: Tools, handles: Mapping[Key, str]) -> None:
        """Begin to look after it; `handles` are the runs that an earlier server has left."""
        self.name = name
        self._tools = tools
        self._handles = dict(handles)
        self._instances: dict[Key, Instance] = {}
        self._ending: list[Instance] = []
        self._wake = threading.Event()
        self._leaving = False
        self._shared = Shared(tools.runner, tools.routes, self._wake.set, threading.Lock())
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"endpoint-{name}")
        self._thread.start()

    def wake(self) -> None:
        """The document has changed: look at it now."""
        self._wake.set()

    def leave(self) -> None:
        """Let its containers run, but look after them no more."""
        self._leaving = True
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait until nobody looks after it."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._leaving:
            self._wake.clear()
            try:
                if self._step():
                    return
            except Exception as error:  # this thread is the only one that can go on with the endpoint
                shortage = shortage_of(error, self._tools.home.path)
                if shortage:
                    _LOG.warning("Endpoint %s waits: %s", self.name, shortage)
                else:
                    _LOG.exception("Endpoint %s: a fault of the emulator", self.name)
                time.sleep(_LOOK_S)
            self._wake.wait(_LOOK_S)
        for instance in [*self._instances.values(), *self._ending]:
            instance.leave()
        for instance in self._instances.values():
            instance.join(5)

    def _step(self) -> bool:
        """Whether the endpoint is gone."""
        try:
            document = self._tools.store.get(KIND, self.name)
        except MissingError:
            return True
        if document["EndpointStatus"] == DELETING:
            self._delete()
            return True
        self._reconcile(document)
        while self._handles:  # of a deployment that is over: an earlier server could not end it any more
            self._tools.runner.remove(self._handles.popitem()[1])
        document = self._advance(document)
        self._publish(document)
        self._reconcile(document)  # after the route: what is ended now gets no request any more
        self._tell(document)
        return False

    # ---- what runs ------------------------------------------------------------------------------------------------

    def _reconcile(self, document: Document) -> None:
        wanted: dict[Key, Document] = {}
        for deployment in (document.get(CURRENT), document.get(NEXT)):
            wanted.update((key, deployment) for key in deployments.keys(deployment) if deployment)
        for key in [key for key in self._instances if key not in wanted]:
            instance = self._instances.pop(key)
            instance.end(self._drain_s(document))
            self._ending.append(instance)
        self._ending = [instance for instance in self._ending if not instance.has_ended]
        for key, deployment in wanted.items():
            if key not in self._instances and not any(one.key == key for one in self._ending):
                self._begin(key, deployment, document)

    @staticmethod
    def _drain_s(document: Document) -> float:
        """How long an instance that is replaced may still answer."""
        shown = document.get(CURRENT) or document.get(NEXT) or {"config": {}}
        return MAX_INVOCATION_S if shown["config"].get("AsyncInferenceConfig") else DRAIN_S

    def _begin(self, key: Key, deployment: Document, document: Document) -> None:
        is_new = deployment is document.get(NEXT) or key.index >= (document.get(SCALED_FROM) or {}).get(
            key.variant, deployment["counts"][key.variant]
        )
        group = f"{ENDPOINT_LOGS}/{self.name}"
        instance = Instance(key, self._serve(key, deployment, group), group, self._shared, must_start=is_new)
        instance.begin(self._handles.get(key))  # first: where there is no thread for it now, it is begun again
        self._handles.pop(key, None)
        self._instances[key] = instance

    def _serve(self, key: Key, deployment: Document, group: str) -> Serve:
        [variant] = [one for one in deployments.variants(deployment) if one["VariantName"] == key.variant]
        folder = self._tools.home.endpoint_dir(self.name)
        return Serve(
            name=f"endpoint.{self.name}.{key.generation}.{key.variant}.{key.index}",
            model=_isolated(deployment["models"][key.variant], deployment["config"]),
            folder=folder / f"{key.generation}.{key.variant}.{key.index}",
            model_dir=folder / f"{key.generation}.{key.variant}.model",
            log_file=self._tools.home.logs.file(group, key.log_stream),
            region=self._tools.region,
            labels={ENDPOINT_LABEL: self.name, INSTANCE_LABEL: str(key)},
            startup_s=float(variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_S)),
        )

    def _of(self, deployment: Document) -> list[Instance]:
        return [self._instances[key] for key in deployments.keys(deployment) if key in self._instances]

    # ---- what becomes of it ---------------------------------------------------------------------------------------

    def _advance(self, document: Document) -> Document:
        """Take the step that is due: switch to the next deployment, give it up, or end a scaling."""
        pending = document.get(NEXT)
        if pending:
            return self._advance_to(pending, document)
        current = document.get(CURRENT)
        if current and document.get(SCALED_FROM):
            return self._advance_scaling(current, document)
        return document

    def _advance_to(self, pending: Document, document: Document) -> Document:
        instances = self._of(pending)
        failed = [instance for instance in instances if instance.phase == INSTANCE_FAILED]
        if failed:
            return self._give_up(failed[0], pending, document)
        if instances and all(instance.phase == HEALTHY for instance in instances):
            return self._change(lambda d: _switch(d, pending["generation"]))
        return document

    def _give_up(self, failed: Instance, pending: Document, document: Document) -> Document:
        reason = (
            f"The container for production variant {failed.key.variant} did not start: {failed.reason} See the log "
            f"stream {failed.key.log_stream} of {ENDPOINT_LOGS}/{self.name}."
        )
        if document.get(CURRENT):
            self._change(lambda d: d.update(EndpointStatus=ROLLING_BACK) if d["EndpointStatus"] == UPDATING else None)
        return self._change(lambda d: _drop_next(d, pending["generation"], reason))

    def _advance_scaling(self, current: Document, document: Document) -> Document:
        instances = self._of(current)
        failed = [instance for instance in instances if instance.phase == INSTANCE_FAILED]
        if failed:
            return self._change(lambda d: _unscale(d, f"The instances could not be scaled: {failed[0].reason}"))
        if all(instance.phase == HEALTHY for instance in instances):
            return self._change(lambda d: _end_scaling(d, document[CURRENT]["counts"]))
        return document

    def _publish(self, document: Document) -> None:
        current = document.get(CURRENT)
        if current is None or document["EndpointStatus"] in (FAILED, DELETING):
            self._tools.routes.drop(self.name)
            return
        config = current["config"]
        routes = tuple(self._variant_route(variant, current) for variant in deployments.variants(current))
        self._tools.routes.put(Route(self.name, routes, current.get("capture"), config.get("AsyncInferenceConfig")))

    def _variant_route(self, variant: Document, current: Document) -> VariantRoute:
        name = variant["VariantName"]
        mine = [one for one in self._of(current) if one.key.variant == name and one.phase == HEALTHY and one.target]
        return VariantRoute(
            name,
            current["weights"][name],
            tuple(one.target for one in mine if one.target),
            (variant.get("RoutingConfig") or {}).get("RoutingStrategy", ""),
            (variant.get("ServerlessConfig") or {}).get("MaxConcurrency"),
            per_instance(current["config"].get("AsyncInferenceConfig")),
            deployments.container_of(current["models"][name]).get("Mode") == deployments.MULTI_MODEL,
        )

    def _tell(self, document: Document) -> None:
        """Note in the document how many are healthy, and whether any is."""
        current = document.get(CURRENT)
        shown = current or document.get(NEXT)
        if shown is None:
            return
        instances = self._of(current) if current else []
        healthy: dict[str, int] = {}
        for instance in instances:
            healthy[instance.key.variant] = healthy.get(instance.key.variant, 0) + (instance.phase == HEALTHY)
        lost = [one for one in instances if one.phase == UNHEALTHY and one.failures >= _GIVE_UP_FAILURES]
        reason = lost[0].reason if lost and len(lost) == len(instances) else None
        known = {one["VariantName"]: one["CurrentInstanceCount"] for one in document.get("ProductionVariants", [])}
        wanted = {name: healthy.get(name, 0) for name in shown["counts"]}
        if known != wanted or (document["EndpointStatus"] == OUT_OF_SERVICE) != bool(reason):
            self._change(lambda d: _note(d, healthy, reason))

    def _delete(self) -> None:
        self._tools.routes.drop(self.name)
        self._tools.waiting.drop(self.name)
        ending = [*self._instances.values(), *self._ending]
        for instance in ending:
            instance.end()
        for instance in ending:
            while not instance.join(1.0):
                if self._leaving:
                    instance.leave()
        for handle in self._handles.values():  # of a server that was killed; they were never taken up
            self._tools.runner.remove(handle)
        if self._leaving:
            return  # the next server goes on
        self._tools.waiting.end(self.name)
        shutil.rmtree(self._tools.home.endpoint_dir(self.name), ignore_errors=True)
        self._tools.home.logs.file(WARNING_LOGS, f"{KIND}/{self.name}").unlink(missing_ok=True)
        with contextlib.suppress(MissingError):
            self._tools.store.delete(KIND, self.name)

    def _change(self, change: Callable[[Document], Any]) -> Document:
        return self._tools.store.update(KIND, self.name, change)


def _isolated(model: Document, config: Document) -> Document:
    """The model, cut off the network when the configuration asks for it and the model does not."""
    return {**model, "EnableNetworkIsolation": True} if config.get("EnableNetworkIsolation") else model


def show(document: Document, healthy: Mapping[str, int]) -> None:
    """Fill in what Describe shows of the deployment."""
    shown = document.get(CURRENT) or document.get(NEXT)
    if shown is None:
        document["ProductionVariants"] = []
        return
    status = {CREATING: "Creating", UPDATING: "Updating"}.get(document["EndpointStatus"])
    document["EndpointConfigName"] = shown["config"]["EndpointConfigName"]
    document["ProductionVariants"] = deployments.summaries(shown, healthy, status, document["LastModifiedTime"])
    document["DataCaptureConfig"] = deployments.capture_summary(shown)
    document["AsyncInferenceConfig"] = shown["config"].get("AsyncInferenceConfig")


def _switch(document: Document, generation: int) -> None:
    if document["EndpointStatus"] == DELETING or (document.get(NEXT) or {}).get("generation") != generation:
        return
    document[CURRENT], document[NEXT] = document[NEXT], None
    document.update(EndpointStatus=IN_SERVICE, LastModifiedTime=time.time())
    document.pop("FailureReason", None)
    show(document, document[CURRENT]["counts"])


def _drop_next(document: Document, generation: int, reason: str) -> None:
    if document["EndpointStatus"] == DELETING or (document.get(NEXT) or {}).get("generation") != generation:
        return
    status = IN_SERVICE if document.get(CURRENT) else FAILED
    document.update(EndpointStatus=status, FailureReason=reason[:REASON_CHARS], LastModifiedTime=time.time())
    show(document, (document.get(CURRENT) or {"counts": {}})["counts"])
    document[NEXT] = None


def _end_scaling(document: Document, counts: Mapping[str, int]) -> None:
    if document["EndpointStatus"] != UPDATING or document[CURRENT]["counts"] != counts:
        return
    document[SCALED_FROM] = None
    document.update(EndpointStatus=IN_SERVICE, LastModifiedTime=time.time())
    document.pop("FailureReason", None)
    show(document, counts)


def _unscale(document: Document, reason: str) -> None:
    if document["EndpointStatus"] != UPDATING or not document.get(SCALED_FROM):
        return
    document[CURRENT]["counts"] = document[SCALED_FROM]
    document[SCALED_FROM] = None
    document.update(EndpointStatus=IN_SERVICE, FailureReason=reason[:REASON_CHARS], LastModifiedTime=time.time())
    show(document, document[CURRENT]["counts"])


def _note(document: Document, healthy: Mapping[str, int], reason: str | None) -> None:
    status = document["EndpointStatus"]
    if reason and status == IN_SERVICE:
        document.update(EndpointStatus=OUT_OF_SERVICE, FailureReason=reason[:REASON_CHARS])
    elif not reason and status == OUT_OF_SERVICE:
        document["EndpointStatus"] = IN_SERVICE
        document.pop("FailureReason", None)
    show(document, healthy)
