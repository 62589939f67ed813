"""A serving container of few lines: it says what it was told, and misbehaves when it is asked to.

The model's file `answer.txt` is the first word of every answer. A request's custom attributes are a JSON object
of orders: status (with message), size, sleep_s, exit, hang_up, pings, print, reach (an address).
Variables: START_SLEEP_S, START_EXIT, START_EXIT_IF (a file), MY_MAX_MODELS (in memory).
"""

import json
import os
import pathlib
import signal
import socket
import sys
import time

import serving_base
from serving_base import say

model = serving_base.base / "model/answer.txt"
state = {"pings": True, "models": {}}


class Handler(serving_base.Handler):
    def do_GET(self):
        names = [{"modelName": name, "modelUrl": "there"} for name in sorted(state["models"])]
        page = int(self.path.partition("=")[2] or 0)  # pages of one, so that a client must turn them
        if not self.path.startswith("/models"):
            self.answer(200 if state["pings"] else 503, b"{}")
        elif page + 1 < len(names):
            self.answer(200, json.dumps({"models": names[page : page + 1], "nextPageToken": str(page + 1)}).encode())
        else:
            self.answer(200, json.dumps({"models": names[page:]}).encode())

    def do_DELETE(self):
        say("unload")
        found = state["models"].pop(self.path.split("/")[2], None)
        self.answer(200 if found else 404, b"{}")

    def do_POST(self):
        body = self.body()
        if self.path == "/models":
            self.load(json.loads(body))
        else:
            orders = json.loads(self.headers["X-Amzn-SageMaker-Custom-Attributes"] or "{}")
            if not self.obey(orders):
                self.say(body, orders)

    def obey(self, orders):
        """Whether the orders were all the answer."""
        if "print" in orders:
            say(orders["print"])
        state["pings"] = orders.get("pings", state["pings"])
        time.sleep(orders.get("sleep_s", 0))
        if "exit" in orders:
            os._exit(orders["exit"])
        if "hang_up" in orders:
            self.connection.shutdown(socket.SHUT_RDWR)
        elif "status" in orders:
            self.answer(orders["status"], json.dumps({"error": orders.get("message", "as told")}).encode())
        elif "size" in orders:
            self.answer(200, b"x" * orders["size"])
        else:
            return False
        return True

    def say(self, body, orders):
        word = model.read_text() if model.exists() else ""
        if self.path.startswith("/models/"):
            word = state["models"].get(self.path.split("/")[2])
        if word is None:
            self.answer(404, b'{"error": "not loaded"}')
        elif self.headers["Content-Type"] == "text/csv":
            self.answer(200, body, Content_Type="text/csv")
        else:
            said = {"answer": word, "path": self.path, "pid": os.getpid(), "body": len(body)}
            said["who"] = f"{socket.gethostname()} {os.getpid()}"  # in a container every pid is 1
            if "reach" in orders:
                said["reached"] = reach(orders["reach"])
            said["headers"] = {name.lower(): value for name, value in self.headers.items()}
            said["environ"] = {k: v for k, v in os.environ.items() if k.startswith(("SAGEMAKER_", "AWS_", "MY_"))}
            headers = {"X-Amzn-SageMaker-Custom-Attributes": "from the container", "Content-Type": "application/json"}
            self.answer(200, json.dumps(said).encode(), **headers)

    def load(self, request):
        say("load " + self.headers["X-Amzn-SageMaker-Target-Model"])
        if request["model_name"] in state["models"]:
            self.answer(409, b"{}")
        elif len(state["models"]) >= int(os.environ.get("MY_MAX_MODELS", "100")):
            self.answer(507, b'{"error": "no memory"}')
        elif not pathlib.Path(request["url"], "answer.txt").exists():
            self.answer(400, b'{"error": "no model of mine"}')
        else:
            state["models"][request["model_name"]] = pathlib.Path(request["url"], "answer.txt").read_text()
            self.answer(200, b"{}")


def reach(address):
    try:
        socket.create_connection((address, 8080), 2).close()
    except OSError as error:
        return str(error)
    return "somebody"


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
say(" ".join(["starts", *sys.argv[1:]]))
time.sleep(float(os.environ.get("START_SLEEP_S", "0")))
if pathlib.Path(os.environ.get("START_EXIT_IF", "/nowhere")).exists():
    os.environ["START_EXIT"] = "5"
if "START_EXIT" in os.environ:
    say("there is no such class")
    sys.exit(int(os.environ["START_EXIT"]))
serving_base.serve(Handler)
