"""boto3, unmodified: every waiter and every paginator of the operations that the emulator answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.exceptions import WaiterError

from kennel.emulator.operations import OPERATIONS
from tests.emulator.contract.contract_harness import PROBE
from tests.emulator.emulator_harness import PROGRAM, Emulator, job_request, running, wait_for_status
from tests.emulator.tuning.tuning_harness import PROGRAM as TRIAL
from tests.emulator.tuning.tuning_harness import run

GROUP = "/aws/sagemaker/TrainingJobs"
NAMES = ("one", "two", "three")
ROLE = "arn:aws:iam::000000000000:role/kennel"
SOON = {"Delay": 1, "MaxAttempts": 90}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One in which there are three of everything."""
    folder = tmp_path_factory.mktemp("boto3")
    (folder / "home").mkdir()
    images = {"tiny": [sys.executable, "-u", "-c", PROGRAM], "kennel-serve": [sys.executable, str(PROBE)]}
    images["bowl"] = [sys.executable, "-u", "-c", TRIAL]
    (folder / "home/images.json").write_text(json.dumps(images))
    with running(folder / "home") as server:
        for name in NAMES:
            fill(server, name, folder)
        run(server, "tuned", folder, jobs=3)
        yield server
        client = server.client("sagemaker")
        for name in NAMES:  # what serves outlives the server
            client.delete_endpoint(EndpointName=name)
            client.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=SOON)


def fill(server: Emulator, name: str, folder: Path) -> None:
    client = server.client("sagemaker")
    tags = [{"Key": key, "Value": "x"} for key in "abc"]
    client.create_training_job(**job_request(name, folder, Tags=tags, HyperParameters={"steps": "2"}))
    client.create_model(ModelName=name, PrimaryContainer={"Image": "kennel-serve"}, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "all", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    client.create_endpoint(EndpointName=name, EndpointConfigName=name)
    client.create_transform_job(**transform_request(name, folder))
    wait_for_status(client, name, "Completed")


def transform_request(name: str, folder: Path, model: str | None = None) -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": (folder / "input").as_uri()}}
    return {
        "TransformJobName": name,
        "ModelName": model or name,
        "TransformInput": {"DataSource": source, "ContentType": "text/plain"},
        "TransformOutput": {"S3OutputPath": (folder / f"transformed/{name}").as_uri()},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }


def arn(name: str) -> str:
    return f"arn:aws:sagemaker:eu-central-1:000000000000:training-job/{name}"


def query() -> list[dict[str, Any]]:
    asked = {"Namespace": GROUP, "MetricName": "train:loss"}
    stat = {"Metric": asked | {"Dimensions": [{"Name": "TrainingJobName", "Value": "one"}]}, "Period": 1, "Stat": "Sum"}
    return [{"Id": "loss", "MetricStat": stat}]


PARAMETERS: dict[str, dict[str, Any]] = {  # what a paginator needs beside the size of its pages
    "ListTrainingJobsForHyperParameterTuningJob": {"HyperParameterTuningJobName": "tuned"},
    "ListTags": {"ResourceArn": arn("one")},
    "DescribeLogStreams": {"logGroupName": GROUP},
    "FilterLogEvents": {"logGroupName": GROUP},
    "GetMetricData": {"MetricDataQueries": query(), "StartTime": "2020-01-01", "EndTime": "2100-01-01"},
}
SIZES = {"ListTags": 50, "GetMetricData": 100}  # less than this AWS does not take
LEAST = {
    "ListModels": 3,
    "ListEndpoints": 3,
    "ListEndpointConfigs": 3,
    "ListTags": 3,
    "ListTrainingJobsForHyperParameterTuningJob": 3,
}


def pageable() -> list[tuple[str, str]]:
    """Every operation that the emulator answers and boto3 has a paginator for."""
    session = boto3.Session(region_name="eu-central-1")
    known = {service: session.client(service) for service in OPERATIONS}
    return [(s, name) for s, names in OPERATIONS.items() for name in names if known[s].can_paginate(xform_name(name))]


@pytest.mark.parametrize(("service", "operation"), pageable(), ids=str)
def test_a_paginator_turns_all_pages(emulator: Emulator, service: str, operation: str) -> None:
    paginator = emulator.client(service).get_paginator(xform_name(operation))
    parameters = PARAMETERS.get(operation, {})
    key = str(paginator.result_keys[0].expression)
    whole = paginator.paginate(**parameters).build_full_result()[key]
    assert len(whole) >= LEAST.get(operation, 1)
    if paginator._limit_key is None:  # such as ListMetrics, whose pages have the size that the service likes
        return
    size = SIZES.get(operation, 1)
    pages = list(paginator.paginate(**parameters, PaginationConfig={"PageSize": size}))
    assert [one for page in pages for one in page.get(key, [])] == whole
    assert len(pages) >= (len(whole) if size == 1 else 1)


def waiters() -> list[str]:
    """Every waiter of boto3's that looks at an operation that the emulator answers."""
    client = boto3.Session().client("sagemaker", region_name="eu-central-1")
    model = boto3.Session()._session.get_waiter_model("sagemaker")
    return [
        xform_name(name)
        for name in model.waiter_names
        if model.get_waiter(name).operation in OPERATIONS["sagemaker"] and xform_name(name) in client.waiter_names
    ]


def deploy(client: Any, folder: Path) -> dict[str, str]:  # noqa: ARG001 - one of several
    client.create_endpoint(EndpointName="waited", EndpointConfigName="one")
    return {"EndpointName": "waited"}


def end_deployed(client: Any, folder: Path) -> dict[str, str]:
    client.delete_endpoint(**deploy(client, folder))
    return {"EndpointName": "waited"}


def train(client: Any, folder: Path) -> dict[str, str]:
    client.create_training_job(**job_request("waited", folder))
    return {"TrainingJobName": "waited"}


def transform(client: Any, folder: Path) -> dict[str, str]:
    (folder / "input").mkdir()
    (folder / "input/a").write_text("a")
    client.create_transform_job(**transform_request("waited", folder, "one"))
    return {"TransformJobName": "waited"}


BEGIN: dict[str, Callable[[Any, Path], dict[str, str]]] = {
    "endpoint_in_service": deploy,
    "endpoint_deleted": end_deployed,
    "training_job_completed_or_stopped": train,
    "transform_job_completed_or_stopped": transform,
}


@pytest.mark.parametrize("name", waiters())
def test_a_waiter_sees_what_it_waits_for(emulator: Emulator, tmp_path: Path, name: str) -> None:
    client = emulator.client("sagemaker")
    wanted = BEGIN[name](client, tmp_path)
    client.get_waiter(name).wait(**wanted, WaiterConfig=SOON)
    if name == "endpoint_in_service":
        client.delete_endpoint(**wanted)
        client.get_waiter("endpoint_deleted").wait(**wanted, WaiterConfig=SOON)


def test_a_waiter_tells_that_a_job_has_failed(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    client.create_training_job(**job_request("failed", tmp_path, HyperParameters={"fail": "bad"}))
    with pytest.raises(WaiterError, match='TrainingJobStatus" we matched expected path: "Failed"'):
        client.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="failed", WaiterConfig=SOON)
