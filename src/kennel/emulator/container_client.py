"""HTTP to a container from the event loop, over connections that are kept: an invocation waits for no handshake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import h11

_IDLE_S = 2.0  # less than any server keeps a connection, so that a request seldom meets one that is being closed
_READ_BYTES = 256 * 1024
_CONNECT_S = 2.0


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
        """Whether another request may be sent on it."""
        return not self._reader.at_eof() and time.monotonic() - self.idle_since < _IDLE_S

    async def exchange(self, request: h11.Request, body: bytes, limit_bytes: int) -> Answer:
        head, data = self._http.send(request) or b"", self._http.send(h11.Data(data=body)) or b""
        self._http.send(h11.EndOfMessage())
        self._writer.writelines([head, data])  # one call of the kernel, one packet for a small request
        await self._writer.drain()
        status, headers, parts, size = 0, {}, [], 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ_BYTES))
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
                raise BrokenError("it closed the connection before it had answered")

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

    async def post(self, path: str, headers: Mapping[str, str], body: bytes, limit_bytes: int) -> Answer:
        """Send a request and read its answer.

        Raises:
            NotSentError: nobody listens.
            BrokenError: no whole answer of at most `limit_bytes` came.
        """
        return await self.request("POST", path, headers, body, limit_bytes)

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, limit_bytes: int
    ) -> Answer:
        """Like `post`, with any method."""
        fixed = [("Host", f"{self._host}:{self._port}"), ("Content-Length", str(len(body)))]
        request = h11.Request(method=method, target=path, headers=[*fixed, *headers.items()])
        connection = await self._connection()
        try:
            answer = await connection.exchange(request, body, limit_bytes)
        except (OSError, h11.RemoteProtocolError) as error:
            connection.close()
            raise BrokenError(f"the connection broke before it had answered ({error})") from error
        except BaseException:
            connection.close()
            raise
        if connection.renew():
            self._idle.append(connection)
            asyncio.get_running_loop().call_later(_IDLE_S, self._close_old)
        else:
            connection.close()
        return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            found = self._idle.pop()
            if found.is_good():
                return found
            found.close()
        try:
            async with asyncio.timeout(_CONNECT_S):
                return _Connection(*await asyncio.open_connection(self._host, self._port))
        except (OSError, TimeoutError) as error:
            raise NotSentError(f"{self._host}:{self._port}: {error}") from error

    def _close_old(self) -> None:
        for one in [one for one in self._idle if not one.is_good()]:
            self._idle.remove(one)
            one.close()
