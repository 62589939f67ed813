"""`python -m bench.trials`: what 20 head-only trials of a tuning job cost beside one such training, by the clock.

Both go through a local SageMaker on the process runner, whose start is not counted. The training is a job by itself:
it starts a process, checks and decodes the images, and computes the features. Each trial is a
training job of its own with another learning rate and batch size; they share features and processes that wait.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import photos
from bench.local import Local, serving
from bench.machine import describe

_ROLE = "arn:aws:iam::000000000000:role/kennel"
_METRIC = {"Name": "validation:accuracy", "Regex": r"validation_accuracy=([-+0-9.e]+)"}
_LIMIT = 2.5
_POLL_S = 0.1


def main() -> int:
    """Measure and print; 1 when the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=photos.default_source(), help="a folder with train and val")
    parser.add_argument("--images", type=int, default=240, help="for training, a fifth as many for validation")
    parser.add_argument("--views", type=int, default=10, help="feature_views, and epochs (default 10)")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=1, help="trials at a time (default 1)")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    for name, value in describe().items():
        print(f"{name}: {value}")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = photos.prepare(folder / "photos", arguments.data, arguments.images)
        print(f"{told}; resnet18, {arguments.views} views and epochs, {arguments.parallel} at a time\n")
        print("| one training | all trials | first | each further, median (range) | ratio |\n|---|---|---|---|---|")
        for number in range(arguments.rounds):
            (folder / str(number)).mkdir()
            with serving(folder / str(number), "process") as local:
                one, trials, whole = _round(local, folder / "photos", arguments)
            ratios.append(whole / one)
            first, *further = trials
            middle = f"{statistics.median(further):.2f} s ({min(further):.2f} to {max(further):.2f})"
            print(f"| {one:.1f} s | {whole:.1f} s | {first:.1f} s | {middle} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nmedian ratio {statistics.median(ratios):.2f} (limit {_LIMIT})")
    return int(statistics.median(ratios) >= _LIMIT)


def _round(local: Local, data: Path, arguments: argparse.Namespace) -> tuple[float, list[float], float]:
    """Seconds of one training, of each trial, and of the whole tuning job."""
    client, views, trials = local.client("sagemaker"), arguments.views, arguments.trials
    fixed = {
        "train_layers": "head", "pretrained": "none", "feature_views": str(views), "epochs": str(views),
        "debugger": "off", "profiler": "off",
    }  # fmt: skip
    asked = _definition(data, local.folder / "output")
    client.create_training_job(TrainingJobName="one", HyperParameters=fixed, **asked)
    one = _ended(lambda: client.describe_training_job(TrainingJobName="one"), "TrainingJobStatus")
    client.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="many",
        HyperParameterTuningJobConfig=_config(trials, arguments.parallel),
        TrainingJobDefinition={**asked, "StaticHyperParameters": fixed},
    )
    many = _ended(
        lambda: client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="many"),
        "HyperParameterTuningJobStatus",
    )
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName="many"
    )
    summaries = [summary for page in pages for summary in page["TrainingJobSummaries"]]
    if sum(summary["TrainingJobStatus"] == "Completed" for summary in summaries) != trials:
        raise RuntimeError(f"Not all of the {trials} trials completed: {summaries}")
    summaries.sort(key=lambda summary: summary["CreationTime"])
    seconds = [_seconds(summary, "TrainingEndTime") for summary in summaries]
    return _seconds(one, "TrainingEndTime"), seconds, _seconds(many, "HyperParameterTuningEndTime")


def _definition(data: Path, output: Path) -> dict[str, Any]:
    def channel(name: str) -> dict[str, Any]:
        source = {"S3DataType": "S3Prefix", "S3Uri": (data / name).as_uri()}
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}}

    return {
        "AlgorithmSpecification": {
            "TrainingImage": "kennel-train", "TrainingInputMode": "File", "MetricDefinitions": [_METRIC],
        },
        "RoleArn": _ROLE,
        "InputDataConfig": [channel("train"), channel("validation")],
        "OutputDataConfig": {"S3OutputPath": output.as_uri()},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }  # fmt: skip


def _config(trials: int, parallel: int) -> dict[str, Any]:
    rates = {"Name": "lr", "MinValue": "0.0001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}
    return {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": _METRIC["Name"]},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": trials, "MaxParallelTrainingJobs": parallel},
        "ParameterRanges": {
            "ContinuousParameterRanges": [rates],
            "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["16", "32", "64"]}],
        },
        "RandomSeed": 0,
    }


def _ended(describe_job: Any, status: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = describe_job()
        if job[status] == "Completed":
            return job
        if job[status] in ("Failed", "Stopped"):
            raise RuntimeError(f"A job ended as {job[status]}: {job.get('FailureReason')}")
        time.sleep(_POLL_S)


def _seconds(job: dict[str, Any], end: str) -> float:
    return float((job[end] - job["CreationTime"]).total_seconds())


if __name__ == "__main__":
    sys.exit(main())
