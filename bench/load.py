"""Clients that ask a server for the classes of one photo: `python -m bench.load URL PHOTO --clients 16 --seconds 5`.

Prints one JSON object. Requests are built once and answers are only counted, so that the clients, which share the
processors with the server, take as little of them as they can.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

_END = b"\r\n\r\n"


class Client(asyncio.Protocol):
    """One connection that sends the next request when the last one is answered, or when its time has come."""

    def __init__(self, request: bytes, until: float, interval_s: float, start: float) -> None:
        self.latencies_s: list[float] = []
        self.failed = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._until, self._interval_s = request, until, interval_s
        self._due = start
        self._left = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 TCP
        self._transport = transport
        self._next()

    def _next(self) -> None:
        now = time.perf_counter()
        if now >= self._until:
            self._end()
        elif self._interval_s and self._due > now:
            asyncio.get_running_loop().call_later(self._due - now, self._send)
        else:
            self._send()

    def _send(self) -> None:
        # A request that had to wait for the one before counts from when it was due.
        self._began = self._due if self._interval_s else time.perf_counter()
        self._due += self._interval_s
        if self._transport is not None:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count an answer when it is complete."""
        self._left += data
        head, found, body = self._left.partition(_END)
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        if len(body) < length:
            return
        self._left = b""
        if b" 200 " in lines[0]:
            self.latencies_s.append(time.perf_counter() - self._began)
        else:
            self.failed += 1
        self._next()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 a lost connection is a failed request
        """The server closed it."""
        if not self.done.done():
            self.failed += 1
            self._end()

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def ask(url: str, photo: bytes, clients: int, seconds: float, rate: float) -> dict[str, object]:
    """Ask for a time.

    Args:
        url: of the server.
        photo: an encoded image.
        clients: connections.
        seconds: how long.
        rate: requests a second of all clients together; 0: as fast as they are answered.

    Returns:
        requests a second, latencies in ms at several percentiles, requests that failed, and the clients' CPU seconds.
    """
    where = urlsplit(url)
    lines = f"POST /invocations?top_k=5 HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: image/jpeg\r\n"
    request = f"{lines}Content-Length: {len(photo)}\r\n\r\n".encode() + photo
    loop, start, cpu = asyncio.get_running_loop(), time.perf_counter(), time.process_time()
    interval = clients / rate if rate else 0.0
    asking = []
    for number in range(clients):
        due = start + interval * number / clients
        _, client = await loop.create_connection(
            lambda due=due: Client(request, start + seconds, interval, due),  # type: ignore[misc]
            str(where.hostname),
            int(where.port or 80),
        )
        asking.append(client)
    await asyncio.gather(*(client.done for client in asking))
    took = time.perf_counter() - start
    latencies = sorted(one for client in asking for one in client.latencies_s)
    return {
        "requests_per_s": len(latencies) / took,
        "failed": sum(client.failed for client in asking),
        "clients_cpu_s": time.process_time() - cpu,
        "seconds": took,
        **{f"p{percent}_ms": _percentile(latencies, percent) * 1000 for percent in (50, 95, 99)},
    }


def _percentile(values: list[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else float("nan")


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=0)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(ask(given.url, given.photo.read_bytes(), given.clients, given.seconds, given.rate))))


if __name__ == "__main__":
    main()
