"""An AWS that says what a test tells it to: real HTTP, AWS JSON and the runtime's REST, no state."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any] | bytes]


@dataclass
class Script:
    """Answers by operation; the last one of a list is repeated."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  # operation, headers, body

    def next(self, operation: str) -> Answer:
        waiting = self.answers.get(operation, [(500, {"__type": "InternalFailure", "message": operation})])
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


class _Server(ThreadingHTTPServer):
    def __init__(self, script: Script) -> None:
        self.script = script
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation = self.headers.get("X-Amz-Target", self.path).rpartition(".")[2]
        self.server.script.seen.append((operation, dict(self.headers), body))
        status, answer = self.server.script.next(operation)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if isinstance(answer, dict) and "__type" in answer:
            self.send_header("x-amzn-ErrorType", answer["__type"])
        if status == 200 and operation.endswith("/invocations"):
            self.send_header("x-Amzn-Invoked-Production-Variant", "AllTraffic")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def scripted() -> Iterator[tuple[Script, str]]:
    """The script, and the URL under which it is played."""
    script = Script()
    with _Server(script) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield script, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
