"""Around every request: its id, its line in the log, and an end of the connection that loses no answer."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import logs

LINGER_S = 2  # how long a refused body is read and dropped, so that its sender gets to read the refusal
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Exchange:
    """One request and its answer, counted while they pass.

    An answer that goes out before the whole body came in ends the connection (RFC 9112, 9.3). Closing with unread
    bytes resets it, and the sender may never see the answer; so the rest is read for a moment first.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, closing: bool) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.status = 0
        self.error: str | None = None
        self.bytes_in = self.bytes_out = 0
        self.seconds = 0.0
        self._start = time.perf_counter()
        self._receive, self._send = receive, send
        self._body_left = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._closing = closing

    async def receive(self) -> Message:
        """Pass the client's next message on."""
        message = await self._receive()
        self.bytes_in += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_left = False
        return message

    async def send(self, message: Message) -> None:
        """Pass the server's next message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers["X-Request-Id"] = self.request_id
            if self._body_left or self._closing:
                headers["Connection"] = "close"
            await self._send(message)
            return
        self.bytes_out += len(message.get("body", b""))
        if message.get("more_body", False) or not self._body_left:
            self.seconds = time.perf_counter() - self._start
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        self.seconds = time.perf_counter() - self._start
        await self._drop_body()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drop_body(self) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                while self._body_left:
                    await self.receive()
        except TimeoutError:
            return


class RequestLog:
    """ASGI middleware: every request gets an id, one line in the log, and its faults a traceback there."""

    def __init__(self, app: ASGIApp, closing: Callable[[], bool], observe: Callable[[str, int, float], None]) -> None:
        """Wrap an application.

        Args:
            app: what answers.
            closing: whether connections end with their answer.
            observe: told route, status and seconds of every request.
        """
        self.app = app
        self.closing = closing
        self.observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. The application has answered before an exception arrives here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self.closing())
        scope.setdefault("state", {})["exchange"] = exchange
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            logs.fault("fault", error, request_id=exchange.request_id)
        finally:
            self._write(scope, exchange)
            # The matched route, not the path: names of models and typing errors would be endless series.
            route = scope["route"].path if "route" in scope else "none"
            self.observe(route, exchange.status, exchange.seconds)

    def _write(self, scope: Scope, exchange: Exchange) -> None:
        logs.event(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=exchange.status,
            ms=round(exchange.seconds * 1000, 1),
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            request_id=exchange.request_id,
            **({"error": exchange.error} if exchange.error else {}),
        )
