"""A serving container that says what the platform gave it and did to it.

A request's body is a JSON object of orders: status, sleep_s, size. Variables: PING_SLEEP_S (of the first ping),
PING_STATUS, DEAF (it ignores SIGTERM), TELL (the answer to GET /execution-parameters).
"""

import http.server
import json
import os
import pathlib
import signal
import sys
import time

base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
pings = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        told = os.environ.get("TELL")
        if self.path == "/execution-parameters":
            self.answer(200 if told else 404, (told or "").encode())
            return
        pings.append([self.path, self.headers["Content-Length"]])
        if len(pings) == 1:
            time.sleep(float(os.environ.get("PING_SLEEP_S", "0")))
        self.answer(int(os.environ.get("PING_STATUS", "200")))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        orders = json.loads(body) if body.startswith(b"{") else {}
        time.sleep(orders.get("sleep_s", 0))
        said = {
            "path": self.path, "body_bytes": len(body), "headers": {k.lower(): v for k, v in self.headers.items()},
            "arguments": sys.argv[1:], "environ": dict(os.environ), "pings": pings, "user": os.getuid(),
            "model": {path.name: path.read_text() for path in (base / "model").iterdir()}, "write": write(),
        }  # fmt: skip
        answer = b"x" * orders["size"] if "size" in orders else json.dumps(said).encode()
        self.answer(orders.get("status", 200), answer)


def write():
    """What happens when the container writes into its model."""
    try:
        (base / "model/mine").write_text("mine")
    except OSError as error:
        return error.strerror
    return "written"


def stop(*_):
    sys.stdout.write("SIGTERM\n")
    sys.stdout.flush()
    if "DEAF" not in os.environ:
        sys.exit(0)


signal.signal(signal.SIGTERM, stop)
address = "0.0.0.0" if str(base) == "/opt/ml" else "127.0.0.1"
server = http.server.ThreadingHTTPServer((address, int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler)
server.daemon_threads = True
server.serve_forever()
