"""One container that serves a model: from the model's document to its first good /ping, and to its end.

Endpoints and batch transform jobs start their containers here.
Source: SageMaker developer guide, "Custom Inference Code with Hosting Services" and "… with Batch Transform".
"""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kennel.contract.paths import BASE_DIR, HOSTING_PORT, HOSTING_STOP_GRACE_S, ContainerPaths
from kennel.emulator.containers.client import Connections
from kennel.emulator.containers.model_cache import ModelCache, ModelPlace
from kennel.emulator.containers.model_data import bring, model_data
from kennel.emulator.documents.endpoint import MULTI_MODEL, container_of
from kennel.emulator.runners.base import Exited, Launch, Lost, Mount, Runner, RunnerError, Running
from kennel.emulator.state.log_lines import log_tail
from kennel.emulator.state.shortages import passes
from kennel.storage import StorageError, Uri

STARTUP_S = 240.0  # for the first good /ping
PING_S = 2.0  # for the answer to one
_BETWEEN_PINGS_S = 0.1
_BETWEEN_STATES_S = 0.5
_REMOVE_S = 30.0  # for open files to be had, without which it cannot be found


class ServeError(Exception):
    """The container does not serve. The message holds the end of its log."""


class CancelledError(Exception):
    """The caller does not want it any more."""


@dataclass(frozen=True)
class Serve:
    """What is to be started."""

    name: str  # unique among all runs of a home
    model: Mapping[str, Any]  # the document of CreateModel
    folder: Path  # of this container alone; without containers it stands for SageMaker's own base folder
    model_dir: Path  # several containers of one model may share it; they read it only
    log_file: Path
    region: str
    labels: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)  # goes before the model's own
    startup_s: float = STARTUP_S

    @property
    def container(self) -> Mapping[str, Any]:
        """The model's one container definition."""
        return container_of(self.model)

    @property
    def is_multi_model(self) -> bool:
        """Whether its models are loaded by name, while it runs."""
        return self.container.get("Mode") == MULTI_MODEL


class ServeContainer:
    """One running container, or process that stands for one. Its handle outlives the emulator."""

    def __init__(self, runner: Runner, spec: Serve, handle: str | None = None) -> None:
        """Nothing is started yet; with a handle it is one that runs already."""
        self._runner = runner
        self.spec = spec
        self.handle = handle
        self._address: tuple[str, int] | None = None

    def start(self) -> str:
        """Bring the model and start the image with the argument `serve`; its handle.

        Raises:
            ServeError: the model's data or the image cannot be had.
        """
        try:
            self.handle = self._runner.start(self._launch())
        except (StorageError, RunnerError, OSError, ValueError) as error:
            raise ServeError(str(error)) from error
        return self.handle

    def _launch(self) -> Launch:
        spec = self.spec
        refusal = self._runner.multi_model_refusal(spec.container["Image"]) if spec.is_multi_model else None
        if refusal:
            raise RunnerError(refusal)
        isolated = bool(spec.model.get("EnableNetworkIsolation")) and self._runner.name == "docker"
        spec.folder.mkdir(parents=True, exist_ok=True)
        spec.log_file.parent.mkdir(parents=True, exist_ok=True)
        spec.log_file.touch()
        return Launch(
            name=spec.name,
            image=spec.container["Image"],
            log_file=spec.log_file,
            base_dir=spec.folder,
            arguments=("serve",),
            environ=_environ(spec),
            mounts=self._mounts(),
            network=spec.name if isolated else None,  # one without a way out; with none at all nobody could ask it
            isolated=isolated,
            port=HOSTING_PORT,
            labels=spec.labels,
        )

    def _mounts(self) -> tuple[Mount, ...]:
        own = ContainerPaths(self.spec.folder)
        paths = ContainerPaths(Path(BASE_DIR))
        if self.spec.is_multi_model:
            Uri.parse(self.spec.container["ModelDataUrl"])  # what is wrong with it is told now, and not by a request
            own.models_dir.mkdir(parents=True, exist_ok=True)
            return (Mount(own.models_dir, str(paths.models_dir), read_only=True),)
        bring(model_data(self.spec.container), self.spec.model_dir)
        return (Mount(self.spec.model_dir, str(paths.model_dir), read_only=True),)

    def models(self, connections: Connections) -> ModelCache | None:
        """Who loads its models, where there are several; nothing is loaded yet."""
        if not self.spec.is_multi_model:
            return None
        folder = ContainerPaths(self.spec.folder).models_dir
        seen_dir = self._runner.seen_path(self.spec.folder, str(ContainerPaths(Path(BASE_DIR)).models_dir))
        caching = (self.spec.container.get("MultiModelConfig") or {}).get("ModelCacheSetting")
        prefix = Uri.parse(self.spec.container["ModelDataUrl"])
        return ModelCache(ModelPlace(prefix, folder, seen_dir, keeps=caching != "Disabled"), connections)

    def wait_until_healthy(self, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Until GET /ping answers 200.

        Raises:
            ServeError: it ended, or did not answer within the start-up limit.
            CancelledError: `is_cancelled` has become true.
        """
        deadline = time.monotonic() + self.spec.startup_s
        next_state = 0.0
        last = "nothing listens"
        while True:
            if is_cancelled():
                raise CancelledError
            if time.monotonic() >= next_state:
                self._check_running()
                next_state = time.monotonic() + _BETWEEN_STATES_S
            problem = self.ping()
            if problem is None:
                return
            last = problem
            if time.monotonic() > deadline:
                raise ServeError(
                    f"It did not pass the ping health check in {self.spec.startup_s:g} s; GET /ping: {last}. "
                    f"{self.tail()}"
                )
            time.sleep(_BETWEEN_PINGS_S)

    def _check_running(self) -> None:
        ended = self.ended()
        if ended:
            raise ServeError(f"{ended} {self.tail()}")

    def ended(self) -> str | None:
        """How it ended, or None while it runs or the engine does not answer."""
        if self.handle is None:
            return "It was not started."
        try:
            state = self._runner.state(self.handle)
        except RunnerError:
            return None
        if isinstance(state, Running):
            return None
        if isinstance(state, Lost):
            return state.reason
        assert isinstance(state, Exited)  # noqa: S101 - there are three
        return f"The container ended with exit code {state.code}{f' ({state.reason})' if state.reason else ''}."

    def ping(self, timeout_s: float = PING_S) -> str | None:
        """What is wrong with the answer to GET /ping; None when it is 200."""
        try:
            host, port = self.address()
        except RunnerError as error:
            return str(error)
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        try:
            connection.request("GET", "/ping")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        return None if status == 200 else f"HTTP status {status}"

    def address(self) -> tuple[str, int]:
        """Where it listens, seen from this machine.

        Raises:
            RunnerError: it does not run.
        """
        if self._address is None:
            if self.handle is None:
                raise RunnerError(f"{self.spec.name} was not started.")
            self._address = self._runner.address(self.handle, HOSTING_PORT)
        return self._address

    def _remove(self, handle: str) -> None:
        deadline = time.monotonic() + _REMOVE_S
        while True:
            try:
                return self._runner.remove(handle)
            except RunnerError as error:
                if not passes(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_BETWEEN_PINGS_S)

    def tail(self) -> str:
        """The last lines of its log, in a sentence."""
        lines = log_tail(self.spec.log_file)
        return f"The end of its log: {' | '.join(lines)}" if lines else "Its log is empty."

    def stop(self, grace_s: float = HOSTING_STOP_GRACE_S) -> None:
        """SIGTERM; SIGKILL after `grace_s`; nothing is left but the log and the folder. May be repeated."""
        if self.handle is None:
            return
        with contextlib.suppress(RunnerError):  # the engine is gone; removal says so
            self._runner.signal(self.handle)
            deadline = time.monotonic() + grace_s
            while isinstance(self._runner.state(self.handle), Running) and time.monotonic() < deadline:
                time.sleep(0.05)
        with contextlib.suppress(RunnerError):
            self._remove(self.handle)
        self.handle = None
        self._address = None


def _environ(spec: Serve) -> dict[str, str]:
    """The model's variables, and what the platform says beside them."""
    platform = {
        "AWS_REGION": spec.region,
        "AWS_DEFAULT_REGION": spec.region,
        "SAGEMAKER_BIND_TO_PORT": str(HOSTING_PORT),
    }
    own = {"SAGEMAKER_MULTI_MODEL": "true"} if spec.is_multi_model else {}
    given = {str(k): str(v) for k, v in (spec.container.get("Environment") or {}).items()}
    return {**platform, **given, **spec.environ, **own}
