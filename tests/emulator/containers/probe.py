"""A serving container that says what the platform gave it and did to it.

A request's body is a JSON object of orders: status, sleep_s, size. Variables: PING_SLEEP_S (of the first ping),
PING_STATUS, DEAF (it ignores SIGTERM), TELL (the answer to GET /execution-parameters).
"""

import json
import os
import signal
import sys
import time

import serving_base
from serving_base import base

pings = []


class Handler(serving_base.Handler):
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
        body = self.body()
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
    serving_base.say("SIGTERM")
    if "DEAF" not in os.environ:
        sys.exit(0)


signal.signal(signal.SIGTERM, stop)
serving_base.serve(Handler)
