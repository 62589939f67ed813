"""The process around the application: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import time
from types import FrameType

import uvicorn

from kennel.contract.errors import ConfigError
from kennel.contract.paths import HOSTING_STOP_GRACE_S
from serving import logs
from serving.app import create_app
from serving.service import Service
from serving.settings import Settings

LAST_CALL_S = 0.3  # for requests on connections that were accepted just before the signal
DRAIN_S = HOSTING_STOP_GRACE_S - 5  # the platform kills at 30 s; five are left to close and to log
KEEP_ALIVE_S = 75  # longer than the fronts before it keep idle connections, so that they are the ones who close


class Server(uvicorn.Server):
    """uvicorn with the stop that the hosting contract asks for: SIGTERM, every accepted request answered, exit 0."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(service),
                http="httptools",  # the ones that are declared, whatever else happens to be installed
                loop="uvloop",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        self.service = service
        self.stop_signal = ""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 the signal handler's shape
        """Begin to stop; a second Ctrl-C ends the wait. uvicorn's own would raise the signal again and exit by it."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self.stop_signal = signal.Signals(sig).name

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, while the model loads."""
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            logs.event("listening", host=host, port=port)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is time to stop."""
        return await super().on_tick(counter) or self.service.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the door, answer everyone who is inside, leave."""
        start = time.perf_counter()
        self.service.stopping = True
        await _take_in(sockets or [])
        for server in self.servers:
            server.close()
        reason = self.stop_signal or str(self.service.failure)
        logs.event("stopping", reason=reason, requests_to_finish=len(self.server_state.tasks))
        await asyncio.sleep(LAST_CALL_S)
        await super().shutdown(sockets)
        logs.event(
            "stopped", requests_answered=self.server_state.total_requests, s=round(time.perf_counter() - start, 2)
        )


def run(settings: Settings) -> None:
    """Serve until a signal.

    Raises:
        ConfigError: the address cannot be listened on.
        ArtifactError: the model folder cannot be served.
    """
    listener = listen(settings.host, settings.port)  # a taken port is told before seconds go into the model
    logs.event(
        "start",
        front=settings.front,
        model_dir=settings.models_dir if settings.multi_model else settings.model_dir,
        multi_model=settings.multi_model,
        workers=settings.workers,
        workers_reason=settings.workers_reason,
        queue_size=settings.queue_size,
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
    )
    service = Service(settings)
    Server(service).run([listener])
    if service.failure is not None:
        raise service.failure


async def _take_in(listeners: list[socket.socket]) -> None:
    """Wait until nobody stands before the door: closing it resets connections that were never taken in.

    uvloop runs its timers, one of which begins the stop, before it looks at its sockets.
    """
    until = time.monotonic() + LAST_CALL_S
    while time.monotonic() < until and select.select(listeners, [], [], 0)[0]:
        await asyncio.sleep(0.001)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket whose connections send each packet at once.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except OSError as error:
        raise ConfigError(
            [f"Cannot listen on {host}, port {port}: {error.strerror}. Choose another --host or --port."]
        ) from error
    # Connections inherit it. Without it the second packet of an answer waits for the client's delayed
    # acknowledgement of the first, which takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
