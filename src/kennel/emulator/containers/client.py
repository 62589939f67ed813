"""HTTP to a container from the event loop, over connections that are kept: an invocation waits for no handshake."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h11

_IDLE_S = 2.0  # less than any server keeps a connection, so that a request seldom meets one that is being closed
_READ_BYTES = 256 * 1024
_CONNECT_S = 5.0  # time for two more tries, after 1 and 3 s, where the queue of a busy container is full
Body = bytes | Path  # a file is sent as it is read, so that it need not fit into memory


class NotSentError(Exception):
    """Nobody listens; nothing of the request was sent."""


class BrokenError(Exception):
    """The request was sent, but no whole answer came."""


@dataclass(frozen=True)
class Answer:
    """What a container said."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self.idle_since = 0.0

    def is_good(self) -> bool:
        """Whether another request may be sent on it: it was used a moment ago, and nobody has closed it since."""
        if self._writer.is_closing() or time.monotonic() - self.idle_since >= _IDLE_S:
            return False
        poll = select.poll()  # the event loop may not have looked yet; a server has nothing to say unasked but the end
        poll.register(self._writer.get_extra_info("socket"), select.POLLIN)
        return not self._reader.at_eof() and not poll.poll(0)

    async def exchange(self, request: h11.Request, body: Body, limit_bytes: int) -> Answer:
        try:
            await self._send(request, body)
        except ConnectionError as error:  # it may have refused the rest, and said why
            return await self._read_answer(limit_bytes, error)
        return await self._read_answer(limit_bytes)

    async def _send(self, request: h11.Request, body: Body) -> None:
        unsent = self._http.send(request) or b""
        for block in _blocks(body):
            # Head and first block together: one call of the kernel, one packet for a small request.
            self._writer.write(unsent + (self._http.send(h11.Data(data=block)) or b""))
            unsent = b""
            await self._writer.drain()
        self._writer.write(unsent)
        self._http.send(h11.EndOfMessage())

    async def _read_answer(self, limit_bytes: int, cause: ConnectionError | None = None) -> Answer:
        status, headers, parts, size = 0, {}, [], 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                received = await self._reader.read(_READ_BYTES)
                if not received and not status:
                    raise BrokenError("it closed the connection before it had answered") from cause
                self._http.receive_data(received)
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > limit_bytes:
                    raise BrokenError(f"its answer is larger than {limit_bytes} bytes, which is the limit")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, headers, b"".join(parts))
            elif not isinstance(event, h11.InformationalResponse):
                raise BrokenError("it closed the connection before it had answered") from cause

    def renew(self) -> bool:
        """Be ready for another request; False when the container wants to close it."""
        try:
            self._http.start_next_cycle()
        except h11.LocalProtocolError:
            return False
        self.idle_since = time.monotonic()
        return True

    def close(self) -> None:
        self._writer.close()


class Connections:
    """The connections to one container. Used from one event loop only, but for its making."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[_Connection] = []

    async def post(self, path: str, headers: Mapping[str, str], body: Body, limit_bytes: int) -> Answer:
        """Send a request and read its answer.

        Raises:
            NotSentError: nobody listens.
            BrokenError: no whole answer of at most `limit_bytes` came.
        """
        return await self.request("POST", path, headers, body, limit_bytes)

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: Body, limit_bytes: int) -> Answer:
        """Like `post`, with any method."""
        size_bytes = body.stat().st_size if isinstance(body, Path) else len(body)
        fixed = [("Host", f"{self._host}:{self._port}"), ("Content-Length", str(size_bytes))]
        request = h11.Request(method=method, target=path, headers=[*fixed, *headers.items()])
        connection = await self._connection()
        try:
            answer = await connection.exchange(request, body, limit_bytes)
        except (OSError, h11.RemoteProtocolError) as error:
            connection.close()
            raise BrokenError(f"the connection broke before it had answered ({error})") from error
        except h11.LocalProtocolError as error:  # fewer bytes than announced, or more
            connection.close()
            raise BrokenError(f"the payload changed while it was sent ({error})") from error
        except BaseException:  # cancelled, or too large: what is left of the answer must not meet another request
            connection.close()
            raise
        if connection.renew():
            self._idle.append(connection)
            asyncio.get_running_loop().call_later(_IDLE_S, self._close_old)
        else:
            connection.close()
        return answer

    async def close(self) -> None:
        """Let go of what is kept; another request begins anew."""
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> _Connection:
        while self._idle:
            found = self._idle.pop()
            if found.is_good():
                return found
            found.close()
        try:
            async with asyncio.timeout(_CONNECT_S):
                return _Connection(*await asyncio.open_connection(self._host, self._port))
        except TimeoutError as error:
            problem = f"{self._host}:{self._port} did not take the connection within {_CONNECT_S:g} s"
            raise NotSentError(problem) from error
        except OSError as error:
            raise NotSentError(f"{self._host}:{self._port}: {error}") from error

    def _close_old(self) -> None:
        for one in [one for one in self._idle if not one.is_good()]:
            self._idle.remove(one)
            one.close()


def _blocks(body: Body) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    with body.open("rb") as file:
        while block := file.read(_READ_BYTES):
            yield block
