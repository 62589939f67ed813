"""Every request is one that botocore's service model accepts, patterns and enums included."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kennel.contract.errors import ConfigError
from kennel.contract.metrics import METRICS
from kennel.driver.errors import DriverError
from kennel.driver.requests import training as requests
from kennel.driver.requests.training import (
    Async,
    Capture,
    Channel,
    Hosting,
    Machines,
    Model,
    Security,
    Serverless,
    Training,
    Transform,
)
from kennel.driver.requests.validate import problems, require

pytestmark = pytest.mark.pure

ROLE = "arn:aws:iam::123456789012:role/kennel"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/kennel-train:3d8a58593f12"
CLOSED = Security(("subnet-1",), ("sg-1",), True, True, "alias/volume", "alias/output")
TRAINING = Training(
    name="kennel-train-20261122-155709-ab12",
    image=IMAGE,
    role=ROLE,
    channels=(Channel("train", "s3://dogs/train/"), Channel("validation", "s3://dogs/validation/", "FastFile")),
    output_uri="s3://dogs/output",
    machines=Machines("ml.g4dn.xlarge"),
    hyperparameters={"epochs": 3, "batch-size": 16, "compile": False},
)
TRANSFORM = Transform("t1", "m1", "s3://dogs/test/", "s3://dogs/answers/", Machines("ml.m5.xlarge"))
TAGS = {"project": "dogs", "team": ""}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("CreateTrainingJob", requests.create_training_job(TRAINING)),
    (
        "CreateTrainingJob",
        requests.create_training_job(
            replace(
                TRAINING,
                machines=Machines("ml.g5.2xlarge", 2, 50, keep_alive_s=600),
                spot=True,
                checkpoint_uri="s3://dogs/checkpoints/x",
                environment={"WHY": "not"},
                security=CLOSED,
                tags=TAGS,
            )
        ),
    ),
    ("CreateModel", requests.create_model(Model("m1", IMAGE, ROLE, "s3://dogs/model.tar.gz"))),
    (
        "CreateModel",
        requests.create_model(
            Model("m1", IMAGE, ROLE, "s3://dogs/model.tar.gz", {"KENNEL_FRONT": "native"}, CLOSED, TAGS)
        ),
    ),
    ("CreateEndpointConfig", requests.create_endpoint_config(Hosting("c1", "m1", Machines("ml.m5.xlarge", 2)))),
    (
        "CreateEndpointConfig",
        requests.create_endpoint_config(Hosting("c1", "m1", Machines("ml.m5.xlarge"), serverless=Serverless())),
    ),
    (
        "CreateEndpointConfig",
        requests.create_endpoint_config(
            Hosting(
                "c1",
                "m1",
                Machines("ml.m5.xlarge"),
                asynchronous=Async("s3://dogs/async"),
                capture=Capture("s3://dogs/capture", 10),
                volume_kms_key="alias/volume",
                tags=TAGS,
            )
        ),
    ),
    ("CreateEndpoint", requests.create_endpoint("e1", "c1", TAGS)),
    ("UpdateEndpoint", requests.update_endpoint("e1", "c2")),
    ("CreateTransformJob", requests.create_transform_job(TRANSFORM)),
    ("CreateTransformJob", requests.create_transform_job(replace(TRANSFORM, security=CLOSED, tags=TAGS))),
    ("StopTrainingJob", requests.by_name("training-job", "j1")),
    ("DeleteTrainingJob", requests.by_name("training-job", "j1")),
    ("StopTransformJob", requests.by_name("transform-job", "t1")),
    ("DeleteModel", requests.by_name("model", "m1")),
    ("DeleteEndpointConfig", requests.by_name("endpoint-config", "c1")),
    ("DeleteEndpoint", requests.by_name("endpoint", "e1")),
]


@pytest.mark.parametrize(("operation", "request_"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_the_service_model_accepts_the_request(operation: str, request_: dict[str, Any]) -> None:
    assert problems(operation, request_, file_uris=False) == []


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("RegisterScalableTarget", requests.register_scalable_target("e1", 1, 4)),
        ("PutScalingPolicy", requests.put_scaling_policy("e1", 70)),
        ("DeregisterScalableTarget", requests.deregister_scalable_target("e1")),
    ],
)
def test_the_model_of_auto_scaling_accepts_the_request(operation: str, request_: dict[str, Any]) -> None:
    assert problems(operation, request_, file_uris=False, service="application-autoscaling") == []


def test_hyperparameters_travel_as_strings_under_the_trainers_names() -> None:
    made = requests.create_training_job(TRAINING)["HyperParameters"]
    assert made == {"epochs": "3", "batch_size": "16", "compile": "off"}


def test_every_metric_of_the_trainer_is_defined() -> None:
    definitions = requests.create_training_job(TRAINING)["AlgorithmSpecification"]["MetricDefinitions"]
    assert {entry["Name"] for entry in definitions} == set(METRICS)


def test_a_misspelt_hyperparameter_is_refused_with_a_guess() -> None:
    with pytest.raises(ConfigError, match="Unknown hyperparameter 'epoch'. Did you mean 'epochs'\\?"):
        requests.create_training_job(replace(TRAINING, hyperparameters={"epoch": 3, "lr": 1000}))


def test_spot_waits_twice_the_runtime_unless_told() -> None:
    spot = replace(TRAINING, spot=True, max_runtime_s=100)
    assert requests.create_training_job(spot)["StoppingCondition"]["MaxWaitTimeInSeconds"] == 200
    told = replace(spot, max_wait_s=150)
    assert requests.create_training_job(told)["StoppingCondition"]["MaxWaitTimeInSeconds"] == 150
    assert "MaxWaitTimeInSeconds" not in requests.create_training_job(TRAINING)["StoppingCondition"]


def test_a_serverless_variant_names_no_instances() -> None:
    made = requests.create_endpoint_config(Hosting("c1", "m1", Machines("ml.m5.xlarge"), serverless=Serverless(2048)))
    [variant] = made["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    assert not {"InstanceType", "InitialInstanceCount"} & set(variant)


def test_names_sort_by_time_and_fit_the_pattern() -> None:
    at = datetime(2026, 11, 22, 15, 57, 9, tzinfo=UTC)
    assert requests.unique_name("train", at, "ab12") == "kennel-train-20261122-155709-ab12"
    assert len({requests.unique_name("train", at) for _ in range(50)}) > 45


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "-bad-"}, "TrainingJobName is '-bad-'"),
    ({"role": "arn:aws:iam::1:role/x"}, "RoleArn is 'arn:aws:iam::1:role/x'"),
    ({"machines": Machines("ml.g4dn.xlarg")}, "InstanceType is 'ml.g4dn.xlarg'; did you mean ml.g4dn.xlarge"),
    ({"output_uri": "dogs/output"}, "S3OutputPath is 'dogs/output'"),
    ({"machines": Machines("ml.g4dn.xlarge", keep_alive_s=90_000)}, "KeepAlivePeriodInSeconds is 90000; the largest"),
    ({"channels": tuple(Channel(f"c{n}", "s3://b/") for n in range(21))}, "InputDataConfig has 21 entries"),
    ({"image": "x" * 300}, "TrainingImage has 300 characters; at most 255"),
    ({"environment": {"A": 1}}, "Invalid type for parameter Environment.A"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_the_model_refuses_what_aws_would_refuse(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DriverError) as refused:
        require("CreateTrainingJob", requests.create_training_job(replace(TRAINING, **change)), file_uris=False)
    assert said in str(refused.value)


def test_file_uris_are_for_the_local_sagemaker_only() -> None:
    made = requests.create_training_job(replace(TRAINING, output_uri="file:///home/me/output"))
    assert problems("CreateTrainingJob", made, file_uris=True) == []
    [said] = problems("CreateTrainingJob", made, file_uris=False)
    assert "S3OutputPath" in said


def test_a_payload_limit_covers_the_largest_object() -> None:
    assert [requests.payload_mb(size) for size in (10, 6 * 1024**2, 6 * 1024**2 + 1)] == [6, 6, 7]
