"""A server for each runner, on which the probe is an image, and short forms of what the clauses' tests ask."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from tests.emulator.emulator_harness import Emulator, wait_for

IMAGE = "kennel-probe:test"
PROBE = Path(__file__).parents[1] / "containers/probe.py"
ROLE = "arn:aws:iam::000000000000:role/kennel"
RUNNERS = [pytest.param("process", id="process"), pytest.param("docker", id="docker", marks=pytest.mark.docker)]
RUNNERS_AND_TIME = [pytest.param("process", id="process", marks=pytest.mark.slow), RUNNERS[1]]
both_runners = pytest.mark.parametrize("platform", RUNNERS, indirect=True, scope="module")


def write_images(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "images.json").write_text(json.dumps({"kennel-probe": [sys.executable, str(PROBE)]}))


class Platform:
    """A running emulator with one of the two runners."""

    def __init__(self, emulator: Emulator, runner: str, folder: Path) -> None:
        self.emulator = emulator
        self.runner = runner
        self.folder = folder
        self.sagemaker = emulator.client("sagemaker")
        once = Config(retries={"total_max_attempts": 1}, read_timeout=120)
        self.runtime = emulator.client("sagemaker-runtime", config=once)

    def model(self, name: str, **environ: str) -> None:
        archive = self.folder / f"{name}.tar.gz"
        member = tarfile.TarInfo("weights.txt")
        member.size = len(b"weights")
        with tarfile.open(archive, "w:gz") as tar:
            tar.addfile(member, io.BytesIO(b"weights"))
        container = {"Image": IMAGE, "ModelDataUrl": archive.as_uri(), "Environment": environ}
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)

    def create(self, name: str, variant: dict[str, Any] | None = None, **environ: str) -> None:
        """A model, its configuration and its endpoint, all of one name."""
        self.model(name, **environ)
        instances = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        given = {"VariantName": "all", "ModelName": name, **(instances if variant is None else variant)}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[given])
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def deploy(self, name: str, variant: dict[str, Any] | None = None, **environ: str) -> None:
        self.create(name, variant, **environ)
        found = self.settled(name)
        assert found["EndpointStatus"] == "InService", found

    def settled(self, name: str) -> dict[str, Any]:
        def settle() -> dict[str, Any] | None:
            found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
            return None if found["EndpointStatus"] in ("Creating", "Updating") else found

        found: dict[str, Any] = wait_for(settle, 150)
        return found

    def invoke(self, name: str, body: bytes = b"{}", **orders: Any) -> bytes:
        body = json.dumps(orders).encode() if orders else body
        answer = self.runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType="application/json")
        return bytes(answer["Body"].read())

    def ask(self, name: str, body: bytes = b"{}") -> dict[str, Any]:
        """What the probe says of itself."""
        said: dict[str, Any] = json.loads(self.invoke(name, body))
        return said

    def delete(self, name: str) -> float:
        """Delete an endpoint and return how long its end took, in seconds."""
        begun = time.monotonic()
        self.sagemaker.delete_endpoint(EndpointName=name)
        waiter = self.sagemaker.get_waiter("endpoint_deleted")
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        return time.monotonic() - begun

    def log(self, group: str) -> list[str]:
        logs = self.emulator.client("logs")
        streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
        return [
            event["message"]
            for stream in streams
            for event in logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]

    def warnings(self, stream: str) -> list[str]:
        events = self.emulator.client("logs").get_log_events(
            logGroupName="/kennel/warnings", logStreamName=stream, startFromHead=True
        )
        return [event["message"] for event in events["events"]]

    def delete_all(self) -> None:
        for one in self.sagemaker.list_endpoints(MaxResults=100)["Endpoints"]:
            self.delete(one["EndpointName"])
