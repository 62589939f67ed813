"""A serving container of few lines for batch transform.

It answers every line with {"line": …}, or, where MY_ECHO is set, with itself. Orders are lines: `fail`, `sleep S`,
`busy ONCE` (503 the first time), `exit`. What it was asked is printed, and at the start what it was given.
"""

import json
import os
import sys
import threading
import time

import serving_base

seen, lock = {"now": 0, "most": 0}, threading.Lock()
busy = set()


class Handler(serving_base.Handler):
    def do_GET(self):
        told = os.environ.get("TELL")
        if self.path == "/execution-parameters":
            self.answer(200 if told else 404, (told or "").encode())
        else:
            self.answer(200, b"")

    def do_POST(self):
        with lock:
            seen["now"] += 1
            seen["most"] = max(seen["most"], seen["now"])
        body = self.body()
        try:
            self.transform(body)
        finally:
            with lock:
                seen["now"] -= 1

    def transform(self, body):
        say("request", bytes=len(body), type=self.headers["Content-Type"], accept=self.headers["Accept"], **seen)
        time.sleep(float(os.environ.get("SLEEP_S", "0")))
        answers = []
        for line in body.split(b"\n"):
            order = line.decode("utf-8", "replace").split()
            if order[:1] == ["sleep"]:
                time.sleep(float(order[1]))
            if order[:1] == ["exit"]:
                say("no more memory")
                os._exit(7)
            if order[:1] == ["fail"]:
                self.answer(400, b'{"message": "I do not like line ' + line + b'"}')
                return
            if order[:1] == ["busy"] and line not in busy:
                busy.add(line)
                self.answer(503, b"busy")
                return
            text = line.decode("latin-1")
            answers.append(text if "MY_ECHO" in os.environ else json.dumps({"line": text}))
        self.answer(200, "\n".join(answers[-1:] if "MY_LAST" in os.environ else answers).encode())


def say(what, **values):
    serving_base.say(json.dumps({"what": what, **values}))


variables = {name: value for name, value in os.environ.items() if name.startswith(("SAGEMAKER", "MY_"))}
model = [path.name for path in (serving_base.base / "model").iterdir()]
say("starts", arguments=sys.argv[1:], environ=variables, model=model)
time.sleep(float(os.environ.get("MY_START_S", "0")))
if "MY_EXIT" in os.environ:
    say("I cannot start")
    sys.exit(int(os.environ["MY_EXIT"]))
serving_base.serve(Handler)
