"""What a bench of the local SageMaker needs: a home with its server, clients that are plain and fast, small images."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.process import ROOT
from kennel.emulator.runners import make_runner
from kennel.emulator.runners.base import ENDPOINT_LABEL, Runner
from kennel.emulator.state.home import Home
from kennel.emulator.state.store import Store

FIRST_LINE = "first line"
_LIMIT_S = 600.0
LINE_PROGRAM = f"print({FIRST_LINE!r}, flush=True)"
ECHO_PROGRAM = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    def log_message(self, *_): pass
    def do_GET(self): self.say(b"")
    def do_POST(self): self.say(str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode())
    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", 8080))
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Signed:
    """A request that has been signed, so that what it costs the client is not counted."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Local:
    """A running local SageMaker in a folder of its own."""

    folder: Path
    url: str
    region: str
    keys: Credentials

    def client(self, service: str) -> Any:
        """boto3, as anybody has it."""
        return boto3.client(
            service,
            region_name=self.region,
            endpoint_url=self.url,
            aws_access_key_id=self.keys.access_key,
            aws_secret_access_key=self.keys.secret_key,
        )

    def operation(self, name: str, members: Mapping[str, Any]) -> Signed:
        """A request of SageMaker's API."""
        headers = {"X-Amz-Target": f"SageMaker.{name}", "Content-Type": "application/x-amz-json-1.1"}
        return self._signed("/", headers, json.dumps(members).encode())

    def invocation(self, endpoint: str, body: bytes) -> Signed:
        """A request to an endpoint."""
        return self._signed(f"/endpoints/{endpoint}/invocations", {"Content-Type": "image/jpeg"}, body)

    def _signed(self, path: str, headers: Mapping[str, str], body: bytes) -> Signed:
        request = AWSRequest("POST", self.url + path, headers=dict(headers), data=body)
        SigV4Auth(self.keys, "sagemaker", self.region).add_auth(request)
        return Signed("POST", path, dict(request.headers.items()), body)

    def connection(self) -> Connection:
        """A connection that is kept."""
        return Connection(self.url.removeprefix("http://"))

    @property
    def home(self) -> Home:
        """Its folders."""
        return Home(self.folder / "home")

    def environ(self) -> dict[str, str]:
        """Of a `kennel` command."""
        return {**os.environ, "KENNEL_HOME": str(self.home.path)}


class Connection:
    """HTTP without anything around it."""

    def __init__(self, address: str) -> None:
        self._http = http.client.HTTPConnection(address, timeout=60)

    def ms(self, request: Signed) -> float:
        """Milliseconds from the first byte of the request to the last one of its answer."""
        begin = time.perf_counter()
        self._http.request(request.method, request.path, request.body, dict(request.headers))
        answer = self._http.getresponse()
        said = answer.read()
        taken = (time.perf_counter() - begin) * 1000
        if answer.status != 200:
            raise RuntimeError(f"{request.path}: {answer.status} {said[:300]!r}")
        return taken


@contextlib.contextmanager
def serving(folder: Path, runner: str, jobs: int = 0) -> Iterator[Local]:
    """A local SageMaker while the block runs, with so many jobs in its store; what it started is ended with it."""
    home = Home(folder / "home")
    home.make()
    images = {"bench-line": [sys.executable, "-c", LINE_PROGRAM], "bench-echo": [sys.executable, "-c", ECHO_PROGRAM]}
    home.images_file.write_text(json.dumps(images), encoding="utf-8")
    (folder / "kennel.toml").write_text(f'runner = "{runner}"\n', encoding="utf-8")
    fill(Store(home.state_file), jobs)
    command = [sys.executable, "-m", "kennel.emulator", "serve", "--home", str(home.path), "--runner", runner]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            said = server.stderr.readline() if server.stderr else ""
            state = json.loads(home.server_file.read_text(encoding="utf-8"))
            secret = json.loads(home.credentials_file.read_text(encoding="utf-8"))
            yield Local(
                folder, state["url"], state["region"], Credentials(secret["AccessKeyId"], secret["SecretAccessKey"])
            )
        except FileNotFoundError:
            raise RuntimeError(f"The local SageMaker did not start: {said}") from None
        finally:
            server.terminate()
            server.wait()
            end_all(make_runner(runner, home))


def end_all(runner: Runner) -> None:
    """End whatever a server has left running."""
    for label in ("kennel.job", "kennel.waits", ENDPOINT_LABEL):
        for handle in runner.find(label):
            runner.remove(handle)


def fill(store: Store, jobs: int) -> None:
    """Training jobs that have ended, with the members that such jobs have."""
    for number in range(jobs):
        now_s = 1.7e9 + number
        name = f"stored-{number:05}"
        store.insert("training-job", name, now_s, _ended_job(name, now_s))


def _ended_job(name: str, now_s: float) -> dict[str, Any]:
    def channel(kind: str) -> dict[str, Any]:
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"file:///data/{kind}",
            "S3DataDistributionType": "FullyReplicated",
        }
        return {"ChannelName": kind, "DataSource": {"S3DataSource": source}}

    steps = ("Starting", "Downloading", "Training", "Uploading", "Completed")
    message = "Training image download completed. Training in progress."
    return {
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:000000000000:training-job/{name}",
        "CreationTime": now_s,
        "LastModifiedTime": now_s + 60,
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "HyperParameters": {f"parameter_{number}": "0.001" for number in range(20)},
        "AlgorithmSpecification": {"TrainingImage": "kennel-train:latest", "TrainingInputMode": "File"},
        "InputDataConfig": [channel(kind) for kind in ("train", "validation", "test")],
        "SecondaryStatusTransitions": [
            {"Status": step, "StartTime": now_s, "EndTime": now_s + 1, "StatusMessage": message} for step in steps
        ],
        "FinalMetricDataList": [{"MetricName": f"m{n}", "Value": n / 7, "Timestamp": now_s} for n in range(8)],
    }


def seconds_to_line(command: list[str], text: str, environ: Mapping[str, str], folder: Path) -> float:
    """Seconds from the start of a command to the first line of its output that holds a text; it ends by itself."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command, env=dict(environ), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines, taken = [], None
        for line in process.stdout or ():
            lines.append(line)
            if taken is None and text in line:
                taken = time.perf_counter() - begin
    if taken is None:
        raise RuntimeError(f"'{text}' was not printed by {command}: {''.join(lines)[-1000:]}")
    return taken


def wait_for_status(client: Any, name: str) -> None:
    """Until a job has ended well."""
    deadline = time.monotonic() + _LIMIT_S
    while (found := client.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] != "Completed":
        if found["TrainingJobStatus"] in ("Failed", "Stopped") or time.monotonic() > deadline:
            raise RuntimeError(f"{name} is {found['TrainingJobStatus']}: {found.get('FailureReason')}")
        time.sleep(0.1)
