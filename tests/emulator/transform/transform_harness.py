"""Transform jobs over folders of this machine, and a model whose container is batch_echo.py."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from tests.emulator.emulator_harness import Emulator, wait_for

ECHO = Path(__file__).parents[1] / "containers/batch_echo.py"
IMAGE = "kennel-batch-echo:test"
ROLE = "arn:aws:iam::000000000000:role/kennel"
ENDED = ("Completed", "Failed", "Stopped")


def write_images(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "images.json").write_text(json.dumps({"kennel-batch-echo": [sys.executable, str(ECHO)]}))
    return home


def make_model(emulator: Emulator, folder: Path, name: str = "echo", **container: Any) -> str:
    """A model of the echo image, with an artifact of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    artifact = folder / "model.tar.gz"
    member = tarfile.TarInfo("weights.txt")
    with tarfile.open(artifact, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(b""))
    container = {"Image": IMAGE, "ModelDataUrl": artifact.as_uri(), **container}
    emulator.client("sagemaker").create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return name


def job_request(name: str, folder: Path, model: str = "echo", **changes: Any) -> dict[str, Any]:
    """A request over folder/input with the output in folder/output; `split`, `assemble` and `source` are short ways."""
    source = {"S3DataType": "S3Prefix", "S3Uri": (folder / "input").as_uri(), **changes.pop("source", {})}
    data = {"DataSource": {"S3DataSource": source}, "ContentType": "text/plain", **changes.pop("data", {})}
    output = {"S3OutputPath": (folder / "output").as_uri(), **changes.pop("output", {})}
    return {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": data,
        "TransformOutput": output,
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **changes,
    }


def write(folder: Path, **files: str | bytes) -> None:
    """Files below folder/input; two underscores in a name are a slash, one is a dot."""
    for name, content in files.items():
        path = folder / "input" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def outputs(folder: Path) -> dict[str, list[str]]:
    """The lines that the container was sent, by output file."""
    place = folder / "output"
    return {
        path.relative_to(place).as_posix(): [json.loads(line)["line"] for line in path.read_text().splitlines()]
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def run(emulator: Emulator, request: dict[str, Any]) -> dict[str, Any]:
    """Create a job, wait with boto3's waiter, and describe it."""
    client = emulator.client("sagemaker")
    client.create_transform_job(**request)
    return wait(emulator, request["TransformJobName"])


def wait(emulator: Emulator, name: str, timeout_s: float = 90) -> dict[str, Any]:
    client = emulator.client("sagemaker")

    def ended() -> Any:
        found = client.describe_transform_job(TransformJobName=name)
        return found if found["TransformJobStatus"] in ENDED else None

    found: dict[str, Any] = wait_for(ended, timeout_s)
    return found


def said(emulator: Emulator, name: str, what: str) -> list[dict[str, Any]]:
    """What the job's containers printed of one kind."""
    return [
        one for message in log(emulator, name, "") if message.startswith("{")
        if (one := json.loads(message))["what"] == what
    ]  # fmt: skip


def log(emulator: Emulator, name: str, ending: str = "data-log") -> list[str]:
    """The messages of the job's streams, over CloudWatch Logs."""
    client = emulator.client("logs")
    group = "/aws/sagemaker/TransformJobs"
    streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    wanted = [one["logStreamName"] for one in streams if one["logStreamName"].endswith(ending)]
    return [
        event["message"]
        for stream in wanted
        for event in client.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
    ]
