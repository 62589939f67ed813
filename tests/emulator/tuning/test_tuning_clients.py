"""The tuning-request suite: the aws CLI, boto3 and SageMaker's SDK, unmodified, against one server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import botocore.waiter
import pytest

from tests.emulator.emulator_harness import REGION, Emulator
from tests.emulator.tuning.tuning_harness import ended, request

ARN = f"arn:aws:sagemaker:{REGION}:000000000000:hyper-parameter-tuning-job"


def test_the_aws_cli_tunes(emulator: Emulator, tmp_path: Path) -> None:
    """Its `wait` knows no tuning job."""
    asked = request("cli", tmp_path, jobs=3)
    name = ["--hyper-parameter-tuning-job-name", "cli"]
    created = emulator.aws("sagemaker", "create-hyper-parameter-tuning-job", "--cli-input-json", json.dumps(asked))
    assert created == {"HyperParameterTuningJobArn": f"{ARN}/cli"}
    ended(emulator, "cli")
    job = emulator.aws("sagemaker", "describe-hyper-parameter-tuning-job", *name)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    listed = emulator.aws(
        "sagemaker", "list-training-jobs-for-hyper-parameter-tuning-job", *name,
        "--sort-by", "FinalObjectiveMetricValue", "--sort-order", "Descending", "--page-size", "1",
    )  # fmt: skip
    names = [one["TrainingJobName"] for one in listed["TrainingJobSummaries"]]
    assert len(names) == 3
    assert job["BestTrainingJob"]["TrainingJobName"] == names[0]
    found = emulator.aws("sagemaker", "list-hyper-parameter-tuning-jobs", "--status-equals", "Completed")
    assert "cli" in [one["HyperParameterTuningJobName"] for one in found["HyperParameterTuningJobSummaries"]]
    assert "is in status Completed" in emulator.aws("sagemaker", "stop-hyper-parameter-tuning-job", *name, check=False)
    emulator.aws("sagemaker", "delete-hyper-parameter-tuning-job", *name)
    assert "(ResourceNotFound)" in emulator.aws("sagemaker", "describe-hyper-parameter-tuning-job", *name, check=False)


def test_a_boto3_waiter_and_its_paginators(emulator: Emulator, tmp_path: Path) -> None:
    """boto3 has no waiter for tuning jobs of its own; this is one in its format, as its users write it."""
    client = emulator.client("sagemaker")
    client.create_hyper_parameter_tuning_job(**request("boto3", tmp_path, jobs=3))
    states = {"Completed": "success", "Failed": "failure", "Stopped": "failure"}
    acceptors = [
        {"matcher": "path", "argument": "HyperParameterTuningJobStatus", "expected": status, "state": state}
        for status, state in states.items()
    ]
    model = {"operation": "DescribeHyperParameterTuningJob", "delay": 1, "maxAttempts": 90, "acceptors": acceptors}
    waiters = botocore.waiter.WaiterModel({"version": 2, "waiters": {"TuningJobCompleted": model}})
    waiter = botocore.waiter.create_waiter_with_client("TuningJobCompleted", waiters, client)
    waiter.wait(HyperParameterTuningJobName="boto3")
    pages = client.get_paginator("list_hyper_parameter_tuning_jobs").paginate(PaginationConfig={"PageSize": 1})
    names = [one["HyperParameterTuningJobName"] for page in pages for one in page["HyperParameterTuningJobSummaries"]]
    assert "boto3" in names
    assert names == sorted(names), "by name, unless asked otherwise"
    trials = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName="boto3", PaginationConfig={"PageSize": 2}
    )
    assert [len(page["TrainingJobSummaries"]) for page in trials] == [2, 1]


SDK = """
import json, sys
from sagemaker.core.resources import HyperParameterTuningJob
from sagemaker.core.shapes import (
    ContinuousParameterRange, HyperParameterAlgorithmSpecification, HyperParameterTrainingJobDefinition,
    HyperParameterTuningJobConfig, HyperParameterTuningJobObjective, MetricDefinition, OutputDataConfig,
    ParameterRanges, ResourceConfig, ResourceLimits, StoppingCondition,
)

given = json.loads(sys.argv[1])
job = HyperParameterTuningJob.create(
    hyper_parameter_tuning_job_name="sdk",
    hyper_parameter_tuning_job_config=HyperParameterTuningJobConfig(
        strategy="Bayesian", random_seed=1,
        hyper_parameter_tuning_job_objective=HyperParameterTuningJobObjective(type="Maximize", metric_name="score"),
        resource_limits=ResourceLimits(max_number_of_training_jobs=3, max_parallel_training_jobs=2),
        parameter_ranges=ParameterRanges(continuous_parameter_ranges=[
            ContinuousParameterRange(name="x", min_value="-5", max_value="10", scaling_type="Auto")]),
    ),
    training_job_definition=HyperParameterTrainingJobDefinition(
        role_arn="arn:aws:iam::000000000000:role/kennel",
        algorithm_specification=HyperParameterAlgorithmSpecification(
            training_image="bowl:1", training_input_mode="File",
            metric_definitions=[MetricDefinition(name="score", regex="score=([-0-9.]+);")]),
        output_data_config=OutputDataConfig(s3_output_path=given["output"]),
        resource_config=ResourceConfig(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=30),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=600),
    ),
)
job.wait(poll=1)
job.refresh()
print("status", job.hyper_parameter_tuning_job_status)
print("best", job.best_training_job.training_job_name)
print("trials", len(list(job.get_all_training_jobs(sort_by="Name"))))
print("listed", [one.hyper_parameter_tuning_job_name for one in HyperParameterTuningJob.get_all(name_contains="sdk")])
job.delete()
print("left", len(list(HyperParameterTuningJob.get_all(name_contains="sdk"))))
"""


def test_the_sagemaker_sdk_tunes(emulator: Emulator, tmp_path: Path) -> None:
    environ = {**emulator.environ(), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", SDK, json.dumps({"output": (tmp_path / "output").as_uri()})]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert said["status"] == "Completed"
    assert said["best"].startswith("sdk-00")
    assert (said["trials"], said["listed"], said["left"]) == ("3", "['sdk']", "0")


SDK3_PYTHON = "KENNEL_SDK3_PYTHON"
SDK3 = """
import sys
from sagemaker.core.parameter import ContinuousParameter
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, OutputDataConfig, StoppingCondition
from sagemaker.train.tuner import HyperparameterTuner

trainer = ModelTrainer(
    training_image="bowl:1", role="arn:aws:iam::000000000000:role/kennel", base_job_name="v3",
    compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=30),
    output_data_config=OutputDataConfig(s3_output_path=sys.argv[1]),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=600), hyperparameters={"epochs": "2"},
)
tuner = HyperparameterTuner(
    model_trainer=trainer, objective_metric_name="score", hyperparameter_ranges={"x": ContinuousParameter(-5, 10)},
    metric_definitions=[{"Name": "score", "Regex": "score=([-0-9.]+);"}], max_jobs=3, max_parallel_jobs=2,
    base_tuning_job_name="v3",
)
tuner.tune(inputs=None, wait=True)
print("status", tuner.describe().hyper_parameter_tuning_job_status)
print("best", tuner.best_training_job())
"""


@pytest.mark.slow
def test_the_hyperparameter_tuner_of_sdk_v3_tunes(emulator: Emulator, tmp_path: Path) -> None:
    """It asks IAM about the role first, unless it is told not to."""
    python = os.environ.get(SDK3_PYTHON)
    if not python:
        pytest.skip(f"{SDK3_PYTHON} is not set: it names a Python with the package sagemaker-train (docs/tuning.md)")
    environ = {**emulator.environ(), "HOME": str(tmp_path), "SAGEMAKER_VALIDATE_ROLE": "false"}
    command = [python, "-c", SDK3, (tmp_path / "output").as_uri()]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert said["status"] == "Completed"
    assert said["best"].startswith("v3-")
