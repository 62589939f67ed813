"""A server with a fake trainer, for tuning jobs through the API."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3

from bench.functions import Function

_IMAGE = "kennel-bench-tuning"
_REGION = "us-east-1"
_ENDED = ("Completed", "Failed", "Stopped")
_METRICS = ("loss", "begin", "end")
_PROGRAM = """
import time; begin = time.time()
import json, math, os, pathlib
base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
given = json.loads((base / "input/config/hyperparameters.json").read_text())
x, y = float(given["x1"]), float(given["x2"])
time.sleep(float(given["sleep_s"]))
valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
loss = valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
print(f"loss={loss:.6f}; begin={begin:.4f}; end={time.time():.4f};")
"""


class Server:
    """The local SageMaker in a process of its own, as a context."""

    def __init__(self, folder: Path, runner: str, base: str | None = None) -> None:
        """Everything goes below `folder`; with `base`, the fake trainer is an image on it."""
        self.folder = folder
        self._runner = runner
        self._base = base
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start."""
        home = self.folder / "home"
        home.mkdir(parents=True)
        (home / "images.json").write_text(json.dumps({_IMAGE: [sys.executable, "-u", "-c", _PROGRAM]}))
        if self._runner == "docker":
            lines = f"FROM {self._base}\nENTRYPOINT {json.dumps(['python3.11', '-u', '-c', _PROGRAM])}\n"
            subprocess.run(["docker", "build", "--quiet", "--tag", _IMAGE, "-"], input=lines, text=True, check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip
        command = [sys.executable, "-m", "kennel.emulator", "serve", "--home", str(home), "--runner", self._runner]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        while not (home / "emulator.json").exists():
            time.sleep(0.05)
        key = json.loads((home / "credentials.json").read_text())
        self.client = boto3.Session().client(
            "sagemaker",
            endpoint_url=json.loads((home / "emulator.json").read_text())["url"],
            region_name=_REGION,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._stack.close()

    def gaps(self, name: str) -> list[tuple[float, float]]:
        """Seconds between two trials that follow one another: from the end of the first program to the beginning of the
        second, and how much of that lies between the end of the first job and the creation of the second."""
        pages = self.client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
            HyperParameterTuningJobName=name
        )
        times = []
        for page in pages:
            for trial in page["TrainingJobSummaries"]:
                job = self.client.describe_training_job(TrainingJobName=trial["TrainingJobName"])
                final = {one["MetricName"]: one["Value"] for one in job["FinalMetricDataList"]}
                created, ended = trial["CreationTime"].timestamp(), trial["TrainingEndTime"].timestamp()
                times.append((final["begin"], final["end"], created, ended))
        times.sort()
        return [(two[0] - one[1], two[2] - one[3]) for one, two in itertools.pairwise(times)]


def tune(
    server: Server, name: str, function: Function, *, trials: int, parallel: int, sleep_s: float,
    strategy: str = "Bayesian",
) -> dict[str, Any]:  # fmt: skip
    """Run a tuning job to its end and describe it."""
    objective = {"Type": "Minimize", "MetricName": "loss"}
    definition = {
        "AlgorithmSpecification": {
            "TrainingImage": _IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": metric, "Regex": f"{metric}=([-0-9.]+);"} for metric in _METRICS],
        },
        "RoleArn": "arn:aws:iam::000000000000:role/kennel",
        "OutputDataConfig": {"S3OutputPath": (server.folder / "output").absolute().as_uri()},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "StaticHyperParameters": {"sleep_s": str(sleep_s)},
    }
    config = {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": objective,
        "ResourceLimits": {"MaxNumberOfTrainingJobs": trials, "MaxParallelTrainingJobs": parallel},
        "ParameterRanges": function.parameter_ranges(),
        "RandomSeed": 0,
    }
    server.client.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, HyperParameterTuningJobConfig=config, TrainingJobDefinition=definition
    )
    while True:
        job: dict[str, Any] = server.client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if job["HyperParameterTuningJobStatus"] in _ENDED:
            return job
        time.sleep(0.1)
