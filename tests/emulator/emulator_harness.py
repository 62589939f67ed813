"""The emulator as its own process on loopback, and clients that know nothing of it but its URL and its key."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from kennel.emulator.http.credentials import Credentials, load

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"
IMAGE = "tiny:1"
START_LIMIT_S = 60
PROGRAM = """
import json, os, pathlib, signal, sys, time
base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
given = json.loads((base / "input/config/hyperparameters.json").read_text())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("hello from", os.environ["TRAINING_JOB_NAME"])
for step in range(int(given.get("steps", 1))):
    print(f"step={step} loss={1 / (step + 1)}")
(base / "model/weights.txt").write_text("weights")
time.sleep(float(given.get("sleep_s", 0)))
if "fail" in given:
    (base / "output/failure").write_text(given["fail"])
    sys.exit(1)
"""


@dataclass
class Emulator:
    """A running server."""

    process: subprocess.Popen[str]
    home: Path
    url: str
    key: Credentials

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, service: str, **options: Any) -> Any:
        """boto3, as anybody has it."""
        given = {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": self.key.access_key_id,
            "aws_secret_access_key": self.key.secret_access_key,
            **options,
        }
        return boto3.Session().client(service, **given)

    def environ(self) -> dict[str, str]:
        """What another program needs to talk to the server, and nothing of this process's own AWS settings."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {
            **own,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.key.secret_access_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def aws(self, *arguments: str, check: bool = True) -> Any:
        """The aws CLI: what it prints, as JSON; its standard error when it fails and may."""
        program = Path(sys.executable).with_name("aws")
        done = subprocess.run(
            [program, *arguments], env=self.environ(), capture_output=True, text=True, timeout=120, check=False
        )
        if not check:
            return done.stderr
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "emulator.log").read_text().splitlines()]

    def stop(self, sig: int = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.process.wait(30)


@contextlib.contextmanager
def running(
    home: Path, *options: str, variables: Mapping[str, str] | None = None, open_files: int | None = None
) -> Iterator[Emulator]:
    """Start a server for a home, and end it; its environment has no AWS settings but those of `variables`.

    With `open_files`, the server is started with this soft limit, as by a shell; the tests' own limit stays.
    """
    home.mkdir(parents=True, exist_ok=True)
    images = home / "images.json"
    if not images.exists():
        images.write_text(json.dumps({"tiny": [sys.executable, "-u", "-c", PROGRAM]}))
    command = [sys.executable, "-m", "kennel.emulator", "serve", "--home", str(home), "--region", REGION, *options]
    if "--runner" not in options:
        command += ["--runner", "process"]
    if open_files is not None:
        command = ["sh", "-c", f'ulimit -S -n {open_files} && exec "$@"', "sh", *command]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(command, env={**environ, **(variables or {})}, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline() if process.stderr else ""
        assert line.startswith("kennel.emulator: http://127.0.0.1:"), line
        url = json.loads((home / "emulator.json").read_text())["url"]
        yield Emulator(process, home, url, load(home / "credentials.json"))
    finally:
        if process.poll() is None:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def wait_for(condition: Callable[[], Any], timeout_s: float = 150) -> Any:
    """What a condition gives as soon as it gives something."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
    return found


def job_request(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """A CreateTrainingJob request with a channel and an output in a folder of this machine."""
    channel = folder / "input"
    channel.mkdir(parents=True, exist_ok=True)
    (channel / "data.txt").write_text("data")
    source = {"S3DataType": "S3Prefix", "S3Uri": channel.as_uri()}
    return {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/kennel",
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "train:loss", "Regex": "loss=([0-9.]+)"}],
        },
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": (folder / "output").as_uri()},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **changes,
    }


def run_job(emulator: Emulator, name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Create a job, wait for its end, and describe it."""
    client = emulator.client("sagemaker")
    client.create_training_job(**job_request(name, folder, **changes))
    return wait_for_status(client, name, "Completed", "Failed", "Stopped")


def wait_for_status(client: Any, name: str, *statuses: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.update(client.describe_training_job(TrainingJobName=name))
        return found["TrainingJobStatus"] in statuses

    wait_for(reached)
    return found
