"""All endpoints of a home: begins them, finds them again after a restart, and answers their invocations."""

from __future__ import annotations

import contextlib
import threading
import time

from kennel.emulator.documents.endpoint import CURRENT, IN_SERVICE, KIND, Key
from kennel.emulator.errors import ValidationError
from kennel.emulator.hosting.async_inference import AsyncInference
from kennel.emulator.hosting.capture import Capture
from kennel.emulator.hosting.endpoint import INSTANCE_LABEL, EndpointLife, Tools
from kennel.emulator.hosting.exchange import Asker
from kennel.emulator.hosting.invocation import Runtime
from kennel.emulator.hosting.routes import Routes
from kennel.emulator.runners.base import ENDPOINT_LABEL, Runner, RunnerError, Running
from kennel.emulator.state.home import Home
from kennel.emulator.state.store import Document, Store

_FIRST_ROUTES_S = 5.0


class Endpoints:
    """A thread for each endpoint, and one for each of its instances."""

    def __init__(self, store: Store, home: Home, runner: Runner, region: str) -> None:
        """Endpoints are the documents of kind "endpoint" in `store`."""
        self._routes = Routes()
        asker = Asker(home.logs, region)
        self._waiting = AsyncInference(home, self._routes, asker)
        self._tools = Tools(store, home, runner, region, self._routes, self._waiting)
        self._capture = Capture()
        self._runtime = Runtime(self._routes, asker, self._capture)
        self._lock = threading.Lock()
        self._lives: dict[str, EndpointLife] = {}
        self._is_closed = False

    def notes(self, request: Document) -> list[str]:
        """What of a CreateModel or CreateEndpointConfig request has no effect with this runner: a sentence each."""
        if not request.get("EnableNetworkIsolation") or self._tools.runner.name == "docker":
            return []
        return ["EnableNetworkIsolation has no effect here: a plain process can be reached or cut off, not both"]

    def start(self, name: str) -> None:
        """Begin with an endpoint that is stored as Creating. Returns at once."""
        self._start(name, {})

    def _start(self, name: str, handles: dict[Key, str]) -> None:
        with self._lock:
            if not self._is_closed:
                self._lives[name] = EndpointLife(name, self._tools, handles)

    def wake(self, name: str) -> None:
        """An endpoint's document has changed: it is to be updated, scaled or deleted. Returns at once."""
        with self._lock:
            life = self._lives.get(name)
        if life:
            life.wake()

    async def invoke(self, request: Document) -> Document:
        """InvokeEndpoint: `EndpointName`, `Body` (bytes) and what the client sent of the other members.

        Raises:
            AwsError: ValidationError, ModelError, ModelNotReadyException, ServiceUnavailable, InternalFailure.
        """
        return await self._runtime.invoke(request)

    async def invoke_async(self, request: Document) -> Document:
        """InvokeEndpointAsync: the answer has InferenceId, OutputLocation and FailureLocation.

        Raises:
            AwsError: ValidationError, ServiceUnavailable, InternalFailure.
        """
        return await self._waiting.invoke(request)

    def recover(self) -> None:
        """Take up every endpoint, and end what runs without one."""
        documents = {document["EndpointName"]: document for document in self._tools.store.all(KIND)}
        found = self._found(set(documents))
        for name in documents:
            self._start(name, found.get(name, {}))
        self._waiting.recover(documents)
        serving = [name for name, one in documents.items() if one["EndpointStatus"] == IN_SERVICE and one.get(CURRENT)]
        deadline = time.monotonic() + _FIRST_ROUTES_S  # so that nobody is told that a running endpoint is not there
        while not all(self._answers(name) for name in serving) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _answers(self, name: str) -> bool:
        with contextlib.suppress(ValidationError):
            return all(variant.targets for variant in self._routes.get(name).variants)
        return False

    def _found(self, names: set[str]) -> dict[str, dict[Key, str]]:
        """What runs, by endpoint and instance; what has ended or belongs to none is removed."""
        found: dict[str, dict[Key, str]] = {}
        runner = self._tools.runner
        with contextlib.suppress(RunnerError):  # no engine now; each instance will say so
            instances = runner.find(INSTANCE_LABEL)
            for handle, name in runner.find(ENDPOINT_LABEL).items():
                key = Key.parse(instances.get(handle, ""))
                if name in names and key and isinstance(runner.state(handle), Running):
                    found.setdefault(name, {})[key] = handle
                else:
                    runner.remove(handle)
        return found

    def close(self, timeout_s: float = 10) -> None:
        """Leave all containers running; the next server finds them again."""
        with self._lock:
            self._is_closed = True
            lives = list(self._lives.values())
        for life in lives:
            life.leave()
        deadline = time.monotonic() + timeout_s
        for life in lives:
            life.join(max(0.0, deadline - time.monotonic()))
        self._waiting.close()
        self._capture.close()
