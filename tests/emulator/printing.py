"""Jobs of the hostile printer (containers/printer.py) in an emulator of its own, and what boto3 gives of their logs."""

from __future__ import annotations

import contextlib
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.emulator.emulator_harness import Emulator, job_request, running, wait_for, wait_for_status
from tests.images import ROOT

PRINTER = ROOT / "tests/emulator/containers/printer.py"
IMAGE = "kennel-printer:test"
GROUP = "/aws/sagemaker/TrainingJobs"


@contextlib.contextmanager
def emulator(home: Path, runner: str, **variables: str) -> Iterator[Emulator]:
    """A server for a home; started again there, it takes up what ran."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "images.json").write_text(json.dumps({"kennel-printer": [sys.executable, str(PRINTER)]}))
    with running(home, "--runner", runner, variables=variables) as server:
        yield server


def start(server: Emulator, name: str, folder: Path, mode: str, **changes: Any) -> None:
    request = job_request(name, folder, HyperParameters={"mode": mode, **changes.pop("HyperParameters", {})}, **changes)
    request["AlgorithmSpecification"] |= {
        "TrainingImage": IMAGE,
        "MetricDefinitions": [{"Name": "step", "Regex": "step=([0-9]+)"}],
    }
    server.client("sagemaker").create_training_job(**request)


def finish(server: Emulator, name: str) -> dict[str, Any]:
    job = wait_for_status(server.client("sagemaker"), name, "Completed", "Failed", "Stopped")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    return job


def messages(server: Emulator, name: str) -> list[str]:
    """What GetLogEvents gives from the beginning to the end."""
    logs = server.client("logs")
    streams = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["logStreams"]
    found: list[str] = []
    for stream in streams:
        token: dict[str, str] = {}
        while True:
            page = logs.get_log_events(
                logGroupName=GROUP, logStreamName=stream["logStreamName"], startFromHead=True, **token
            )
            if not page["events"]:
                break
            found += [event["message"] for event in page["events"]]
            token = {"nextToken": page["nextForwardToken"]}
    return found


def wait_for_lines(server: Emulator, name: str, count: int) -> None:
    def there() -> bool:
        try:
            return len(messages(server, name)) >= count
        except server.client("logs").exceptions.ResourceNotFoundException:
            return False

    wait_for(there)


def lines(printed: bytes) -> list[str]:
    """The events of what was printed, when no line is too long."""
    ends = printed.endswith(b"\n")
    return [line.decode("utf-8", "replace") for line in printed.split(b"\n")[: -1 if ends else None]]


def printed(folder: Path, name: str) -> bytes:
    """What the program itself has noted."""
    with tarfile.open(folder / "output" / name / "output/output.tar.gz") as archive:
        member = archive.extractfile("printed")
        assert member is not None
        return member.read()
