"""Invocations of one container by many threads at once, over connections that are kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kennel.emulator.containers.client import Connections
from kennel.emulator.threads.loop_thread import LoopThread
from kennel.emulator.transform.client import AbandonedError, TransformClient

THREADS = 16


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"hang":
            self.server.asked.release()  # type: ignore[attr-defined]
            self.server.over.wait(60)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # connections that wait; 5 is the default, and a busy machine then drops the others


@pytest.fixture
def container() -> Iterator[ThreadingHTTPServer]:
    server = _Server(("127.0.0.1", 0), _Echo)
    server.asked, server.over = threading.Semaphore(0), threading.Event()  # type: ignore[attr-defined]
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def client_of(container: ThreadingHTTPServer, loop: LoopThread) -> TransformClient:
    connections = Connections("127.0.0.1", container.server_port)
    return TransformClient(loop, connections, {}, 60, 0, threading.Event(), ended=lambda: None)


def test_threads_that_come_at_once_to_a_fresh_client_all_have_their_answers(container: ThreadingHTTPServer) -> None:
    for _ in range(5):
        loop, gate = LoopThread("test"), threading.Barrier(THREADS)
        client = client_of(container, loop)

        def ask(number: int, client: TransformClient = client, gate: threading.Barrier = gate) -> list[bytes]:
            gate.wait(60)
            return [client.invoke(b"%d %d" % (number, turn)) for turn in range(10)]

        with ThreadPoolExecutor(THREADS) as pool:
            answers = list(pool.map(ask, range(THREADS)))
        client.close()
        loop.close()
        assert answers == [[b"%d %d" % (number, turn) for turn in range(10)] for number in range(THREADS)]


def test_a_server_that_ends_abandons_what_is_under_way(container: ThreadingHTTPServer) -> None:
    loop = LoopThread("test")
    client = client_of(container, loop)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.invoke, b"hang")
        assert container.asked.acquire(timeout=60)  # type: ignore[attr-defined]
        loop.close()
        assert isinstance(waiting.exception(60), AbandonedError)
    with pytest.raises(AbandonedError):
        client.invoke(b"late")
