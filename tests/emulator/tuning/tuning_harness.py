"""Tuning jobs of a tiny program that computes a known function of its hyperparameters, one value an epoch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.emulator.emulator_harness import Emulator, wait_for
from tests.emulator.jobs.test_warm_pools import WAIT

IMAGE = "bowl:1"
WARM_IMAGE = "warm-bowl:1"  # can be started before its job
# Minus the distance from x=3 (and from choice "b", n=4), less 1/epoch: every trial gets better with each epoch.
PROGRAM = """
import json, os, pathlib, signal, sys, time
base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
given = json.loads((base / "input/config/hyperparameters.json").read_text())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
x, n = float(given.get("x", 3)), int(given.get("n", 4))
worth = -abs(x - 3) - abs(n - 4) - (given.get("choice", "b") != "b")
(base / "model/x").write_text(str(x))
if "checkpoint" in given:
    (base / "checkpoints/own").write_text(os.environ["TRAINING_JOB_NAME"])
if "share" in given:
    shared = base / "shared"
    worth = len(list(shared.iterdir())) if shared.is_dir() else -1
    (shared / os.environ["TRAINING_JOB_NAME"]).write_text("mine")
if "waited" in given:
    worth = int(os.environ.get("WAITED", 0))
if "resume" in given:
    saved = base / "checkpoints/saved"
    worth = int(saved.exists())
    saved.touch()
    time.sleep(0 if worth else 120)
if x > float(given.get("fail_above", "inf")):
    (base / "output/failure").write_text("too large")
    sys.exit(1)
for epoch in range(1, int(given.get("epochs", 1)) + 1):
    print(f"epoch={epoch} score={worth - 1 / epoch:.6f};", flush=True)
    time.sleep(float(given.get("epoch_s", 0)))
time.sleep(float(given.get("sleep_s", 0)))
if x > float(given.get("linger_above", "inf")):
    time.sleep(120)
"""


def write_images(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    python = [sys.executable, "-u", "-c"]
    warm = {"command": [*python, WAIT + PROGRAM], "standby": "standby"}
    (home / "images.json").write_text(json.dumps({"bowl": [*python, PROGRAM], "warm-bowl": warm}))


def definition(
    folder: Path, static: dict[str, str] | None = None, image: str = IMAGE, **changes: Any
) -> dict[str, Any]:
    """A training job definition of the program."""
    return {
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "score", "Regex": "score=([-0-9.]+);"}],
        },
        "RoleArn": "arn:aws:iam::000000000000:role/kennel",
        "OutputDataConfig": {"S3OutputPath": (folder / "output").as_uri()},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "StaticHyperParameters": static or {},
        **changes,
    }


def continuous(name: str = "x", low: str = "-5", high: str = "10", scale: str = "Linear") -> dict[str, str]:
    return {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": scale}


def request(name: str, folder: Path, jobs: int = 4, parallel: int = 2, **changes: Any) -> dict[str, Any]:
    """A CreateHyperParameterTuningJob request; changes of the configuration and of the whole request alike."""
    config = {
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": parallel},
        "ParameterRanges": {"ContinuousParameterRanges": [continuous()]},
        "RandomSeed": 1,
    }
    outer = {"HyperParameterTuningJobName": name, "TrainingJobDefinition": definition(folder)}
    whole = ("TrainingJobDefinition", "TrainingJobDefinitions", "WarmStartConfig", "Tags", "Autotune")
    for member, value in changes.items():
        (outer if member in whole else config)[member] = value
    made = {**outer, "HyperParameterTuningJobConfig": {k: v for k, v in config.items() if v is not None}}
    return {member: value for member, value in made.items() if value is not None}


def ended(emulator: Emulator, name: str, timeout_s: float = 240) -> dict[str, Any]:
    """The tuning job after its end."""
    client = emulator.client("sagemaker")
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name))
        return found["HyperParameterTuningJobStatus"] in ("Completed", "Failed", "Stopped")

    wait_for(over, timeout_s)
    return found


def run(emulator: Emulator, name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Create a tuning job and wait for its end."""
    emulator.client("sagemaker").create_hyper_parameter_tuning_job(**request(name, folder, **changes))
    return ended(emulator, name)


def trials(emulator: Emulator, name: str, **options: Any) -> list[dict[str, Any]]:
    """The summaries of its training jobs, by name."""
    client = emulator.client("sagemaker")
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName=name, **options
    )
    return [one for page in pages for one in page["TrainingJobSummaries"]]
