"""Training jobs of tiny programs: the program's text is a hyperparameter, so one image does for all tests."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kennel.emulator.runners import make_runner
from kennel.emulator.runners.base import JOB_LABEL, STANDBY_LABEL
from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import TRAINING_LOGS, WARNING_LOGS
from kennel.emulator.state.store import Store
from kennel.emulator.training.jobs import TrainingJobs
from tests.images import docker

IMAGE = "kennel-tiny:test"
BOOT = (
    "import json, os, pathlib, signal, sys, time\n"
    "base = pathlib.Path(os.environ.get('SAGEMAKER_BASE_DIR', '/opt/ml'))\n"
    "exec(json.loads((base / 'input/config/hyperparameters.json').read_text())['program'])\n"
)
REGION = "eu-central-1"


def job_document(name: str, program: str, output: str, **members: Any) -> dict[str, Any]:
    """What CreateTrainingJob stores."""
    now = time.time()
    hyperparameters = {"program": program, **members.pop("HyperParameters", {})}
    document = {
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:000000000000:training-job/{name}",
        "CreationTime": now,
        "LastModifiedTime": now,
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "SecondaryStatusTransitions": [{"Status": "Starting", "StartTime": now, "StatusMessage": "Starting"}],
        "HyperParameters": hyperparameters,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": output, "CompressionType": "GZIP"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
        "EnableNetworkIsolation": False,
        "EnableManagedSpotTraining": False,
    }
    for key, value in members.items():
        document[key] = {**document[key], **value} if isinstance(document.get(key), dict) else value  # type: ignore[dict-item]
    return document


def channel(name: str, uri: str, **changes: Any) -> dict[str, Any]:
    """An entry of InputDataConfig."""
    source = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated", "S3Uri": uri}
    source |= changes.pop("source", {})
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **changes}


class Platform:
    """A home with its store, a runner and the jobs."""

    def __init__(self, folder: Path, runner: str, grace_s: float = 3) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.home.make()
        images = {"kennel-tiny": [sys.executable, "-u", "-c", BOOT]}
        self.home.images_file.write_text(json.dumps(images))
        self.store = Store(self.home.state_file)
        self.runner = make_runner(runner, self.home)
        self.grace_s = grace_s
        self.jobs = self.new_jobs()
        self.output = (folder / "output").as_uri()

    def new_jobs(self) -> TrainingJobs:
        return TrainingJobs(self.store, self.home, self.runner, REGION, stop_grace_s=self.grace_s)

    def insert(self, program: str, name: str = "job", **members: Any) -> dict[str, Any]:
        document = job_document(name, program, members.pop("output", self.output), **members)
        assert self.jobs.refusals(document) == []
        self.store.insert("training-job", name, time.time(), document)
        return document

    def start(self, program: str, name: str = "job", **members: Any) -> None:
        self.insert(program, name, **members)
        self.jobs.start(name)

    def run(self, program: str, name: str = "job", **members: Any) -> dict[str, Any]:
        """Run to the end and give back the document."""
        self.start(program, name, **members)
        self.jobs.wait(name, 60)
        return self.describe(name)

    def complete(self, program: str, name: str = "job", **members: Any) -> dict[str, Any]:
        document = self.run(program, name, **members)
        assert document["TrainingJobStatus"] == "Completed", (document.get("FailureReason"), self.log(name))
        return document

    def describe(self, name: str = "job") -> dict[str, Any]:
        return self.store.get("training-job", name)

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 30) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, (self.describe(), self.log())
            time.sleep(0.05)
        return found

    def wait_for_line(self, text: str, name: str = "job") -> None:
        self.wait_for(lambda: text in self.log(name))

    def stop(self, name: str = "job") -> None:
        """As StopTrainingJob does it."""

        def change(document: dict[str, Any]) -> None:
            now = time.time()
            document |= {"TrainingJobStatus": "Stopping", "SecondaryStatus": "Stopping"}
            document["SecondaryStatusTransitions"][-1]["EndTime"] = now
            document["SecondaryStatusTransitions"].append(
                {"Status": "Stopping", "StartTime": now, "StatusMessage": "Stopping the training job"}
            )

        self.store.update("training-job", name, change)
        self.jobs.stop(name)

    def streams(self, name: str = "job") -> list[str]:
        return self.home.logs.streams(TRAINING_LOGS, f"{name}/")

    def lines(self, name: str = "job", host: str = "algo-1") -> list[str]:
        streams = [stream for stream in self.streams(name) if f"/{host}-" in stream]
        return [event.message for stream in streams for event in self.home.logs.read(TRAINING_LOGS, stream)]

    def log(self, name: str = "job") -> str:
        return "\n".join(
            event.message for stream in self.streams(name) for event in self.home.logs.read(TRAINING_LOGS, stream)
        )

    def warnings(self, name: str = "job") -> str:
        return "\n".join(e.message for e in self.home.logs.read(WARNING_LOGS, f"training-job/{name}"))

    def statuses(self, name: str = "job") -> list[str]:
        return [one["Status"] for one in self.describe(name)["SecondaryStatusTransitions"]]

    def output_dir(self, name: str = "job") -> Path:
        return self.folder / "output" / name / "output"

    def members(self, archive: str = "model.tar.gz", name: str = "job") -> dict[str, str]:
        """The files of an output archive with their text."""
        return unpack((self.output_dir(name) / archive).read_bytes())


def unpack(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar.getmembers()}  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def tiny_image(base_image: str) -> str:
    """Python and nothing else, under the name that the process runner knows as well."""
    lines = [f"FROM {base_image}", "RUN ln -sf /usr/bin/python3.11 /usr/local/bin/python3"]
    lines += [f"ENTRYPOINT {json.dumps(['python3', '-u', '-c', BOOT])}"]
    docker("build", "--quiet", "--tag", IMAGE, "-", input="\n".join(lines))
    return IMAGE


BOTH = [pytest.param("process", id="process"), pytest.param("docker", id="docker", marks=pytest.mark.docker)]


@pytest.fixture
def runner_name(request: pytest.FixtureRequest) -> str:
    """The process runner; tests of both are parametrised indirectly, or use `both`."""
    return getattr(request, "param", "process")


@pytest.fixture
def platform(runner_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """A platform on which all jobs end with the test."""
    if runner_name == "docker":
        request.getfixturevalue("tiny_image")
    made = Platform(tmp_path, runner_name)
    yield made
    made.jobs.close()
    for label in (JOB_LABEL, STANDBY_LABEL, "test"):
        for handle in made.runner.find(label):
            made.runner.remove(handle)
    for document in made.store.all("training-job"):
        document["TrainingJobStatus"] = "Failed"  # so that what still runs has no owner
        made.store.update("training-job", document["TrainingJobName"], lambda d: d.update(TrainingJobStatus="Failed"))
    last = made.new_jobs()
    last.recover()
    last.close()


both = pytest.mark.parametrize("runner_name", BOTH, indirect=True)
