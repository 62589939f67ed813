"""The process: one for each home, on loopback only, from its lock to its clean end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

from kennel.contract import presence
from kennel.contract.files import write_json
from kennel.contract.paths import PAYLOAD_LIMIT_BYTES
from kennel.emulator.errors import EmulatorError
from kennel.emulator.hosting.endpoints import Endpoints
from kennel.emulator.http import request_log
from kennel.emulator.http.app import App
from kennel.emulator.http.credentials import load_or_make
from kennel.emulator.http.security import Gate
from kennel.emulator.operations.context import Context
from kennel.emulator.runners import make_runner
from kennel.emulator.runners.base import Runner, RunnerError
from kennel.emulator.service_model.protocol import service_model
from kennel.emulator.state import open_files
from kennel.emulator.state.home import Home
from kennel.emulator.state.shortages import shortage_of
from kennel.emulator.state.store import Store
from kennel.emulator.training.jobs import TrainingJobs
from kennel.emulator.transform.jobs import TransformJobs
from kennel.emulator.tuning.jobs import TuningJobs

LOOPBACK = "127.0.0.1"  # there is no option for another address: see docs/security.md
DRAIN_S = 10  # requests that were accepted are answered for so long after SIGTERM
_KEEP_ALIVE_S = 75


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    home: Home
    port: int = 0  # 0: any free one
    runner: str = "auto"
    region: str = "us-east-1"
    payload_limit_bytes: int = PAYLOAD_LIMIT_BYTES


class Server(uvicorn.Server):
    """uvicorn that ends with 0 after SIGTERM or SIGINT, and says when it listens."""

    def __init__(self, app: App, listening: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the Host that is checked is the one that came
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        self._listening = listening

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal handler's shape
        """Begin to stop; a second Ctrl-C ends the wait."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._listening()


def serve(settings: Settings, listening: Callable[[str], None]) -> None:
    """Serve until a signal.

    Args:
        settings: where and how.
        listening: told the URL when clients may come.

    Raises:
        EmulatorError: another process serves this home, the port is taken, the key cannot be used, no docker answers,
            the disk is full.
    """
    open_files.raise_limit()
    try:
        _serve(settings, listening)
    except OSError as error:
        home = settings.home.path
        shortage = shortage_of(error, home)
        raise EmulatorError(str(shortage or f"{home} cannot be used: {error}.")) from error


def _serve(settings: Settings, listening: Callable[[str], None]) -> None:
    home = settings.home
    home.make()
    with _only_one(home):
        credentials = load_or_make(home.credentials_file)
        request_log.open_log(home.request_log_file)
        store = Store(home.state_file)
        listener = _listen(settings.port)
        port = listener.getsockname()[1]
        runner = _runner(settings)
        jobs = TrainingJobs(store, home, runner, settings.region)
        tunings = TuningJobs(store, home, jobs, settings.region)
        transforms = TransformJobs(store, home, runner, settings.region)
        hosting = Endpoints(store, home, runner, settings.region)
        context = Context(store, home, settings.region, jobs, tunings, transforms, hosting)
        context.jobs.recover()
        context.tunings.recover()
        context.transforms.recover()
        context.hosting.recover()
        for service in ("sagemaker", "sagemaker-runtime"):  # a tenth of a second that the first request would wait
            service_model(service)
        app = App(context, Gate(credentials, settings.region, port), settings.payload_limit_bytes)
        url = f"http://{LOOPBACK}:{port}"
        about = {"pid": os.getpid(), "port": port, "url": url, "region": settings.region, "runner": runner.name}
        try:
            Server(app, lambda: _announce(home, about, listening)).run([listener])
        finally:
            home.server_file.unlink(missing_ok=True)
            context.hosting.close()
            context.transforms.close()
            context.tunings.close()
            context.jobs.close()
            request_log.event("stopped")


def _runner(settings: Settings) -> Runner:
    try:
        return make_runner(settings.runner, settings.home)
    except RunnerError as error:
        raise EmulatorError(str(error)) from error


def _announce(home: Home, about: Mapping[str, Any], listening: Callable[[str], None]) -> None:
    write_json(home.server_file, about)
    request_log.event("listening", url=about["url"], pid=about["pid"])
    listening(about["url"])


@contextlib.contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Hold the home's lock; the kernel gives it back however the process ends."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(presence.hold(home.lock_file))
        except presence.HeldError:
            raise EmulatorError(f"{home.path} is served already, by {_who(home)}. Use that one, or end it.") from None
        except OSError as error:
            shortage = shortage_of(error, home.lock_file)
            said = (
                f"{home.lock_file} cannot be written: {error.strerror}. Give it to yourself, or choose another --home."
            )
            raise EmulatorError(str(shortage or said)) from error
        home.server_file.unlink(missing_ok=True)  # of one that was killed
        yield


def _who(home: Home) -> str:
    found = presence.holder(home.lock_file)
    try:
        other = json.loads(home.server_file.read_text(encoding="utf-8"))
        listening = f"process {other['pid']} on {other['url']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"process {found.process.pid}, which does not listen yet" if found and found.process else "a process"
    is_its_own = found and found.process and found.process.pid == other["pid"]
    return listening if is_its_own else f"a process that is not the one of {home.server_file}"


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it on, an answer waits 40 ms for an
    # acknowledgement between its head and its body.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(socket.SOMAXCONN)
        return listener
    except OSError as error:
        listener.close()
        raise EmulatorError(
            f"Cannot listen on {LOOPBACK}, port {port}: {error.strerror}. Choose another --port."
        ) from error
