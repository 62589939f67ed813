"""The aws CLI and SageMaker's SDK, unmodified, against a server of their own: they know its URL and its key."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.contract.contract_harness import PROBE
from tests.emulator.emulator_harness import PROGRAM, REGION, Emulator, job_request, running, wait_for, wait_for_status

ARN = f"arn:aws:sagemaker:{REGION}:000000000000"
GROUP = "/aws/sagemaker/TrainingJobs"
ALWAYS = ["--start-time", "2020-01-01T00:00:00Z", "--end-time", "2100-01-01T00:00:00Z"]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One with an image that trains and one that serves."""
    home = tmp_path_factory.mktemp("foreign") / "home"
    home.mkdir()
    images = {"tiny": [sys.executable, "-u", "-c", PROGRAM], "kennel-serve": [sys.executable, str(PROBE)]}
    (home / "images.json").write_text(json.dumps(images))
    with running(home) as server:
        yield server


def test_the_aws_cli_trains_waits_and_reads_the_log(emulator: Emulator, tmp_path: Path) -> None:
    request = job_request("cli", tmp_path, HyperParameters={"steps": "2"}, Tags=[{"Key": "a", "Value": "b"}])
    created = emulator.aws("sagemaker", "create-training-job", "--cli-input-json", json.dumps(request))
    assert created == {"TrainingJobArn": f"{ARN}:training-job/cli"}
    wait_for_status(emulator.client("sagemaker"), "cli", "Completed")  # the CLI's own waiter looks every two minutes
    emulator.aws("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", "cli")
    job = emulator.aws("sagemaker", "describe-training-job", "--training-job-name", "cli")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    listed = emulator.aws("sagemaker", "list-training-jobs", "--name-contains", "cli", "--status-equals", "Completed")
    assert [one["TrainingJobName"] for one in listed["TrainingJobSummaries"]] == ["cli"]
    assert emulator.aws("sagemaker", "list-tags", "--resource-arn", job["TrainingJobArn"])["Tags"] == request["Tags"]

    streams = emulator.aws(
        "logs", "describe-log-streams", "--log-group-name", GROUP, "--log-stream-name-prefix", "cli/"
    )
    [stream] = [one["logStreamName"] for one in streams["logStreams"]]
    assert stream.startswith("cli/algo-1-")
    events = emulator.aws("logs", "get-log-events", "--log-group-name", GROUP, "--log-stream-name", stream)
    assert "hello from cli" in [event["message"] for event in events["events"]]
    found = emulator.aws("logs", "filter-log-events", "--log-group-name", GROUP, "--filter-pattern", "hello")
    assert [event["message"] for event in found["events"]] == ["hello from cli"]

    dimensions = ["--dimensions", "Name=TrainingJobName,Value=cli"]
    metrics = emulator.aws("cloudwatch", "list-metrics", "--namespace", GROUP, *dimensions)
    assert [metric["MetricName"] for metric in metrics["Metrics"]] == ["train:loss"]
    statistics = emulator.aws(
        "cloudwatch", "get-metric-statistics", "--namespace", GROUP, "--metric-name", "train:loss", *dimensions,
        *ALWAYS, "--period", "86400", "--statistics", "Maximum", "SampleCount",
    )  # fmt: skip
    assert [(one["Maximum"], one["SampleCount"]) for one in statistics["Datapoints"]] == [(1.0, 2.0)]
    emulator.aws("sagemaker", "delete-training-job", "--training-job-name", "cli")
    assert "(ResourceNotFound)" in emulator.aws(
        "sagemaker", "describe-training-job", "--training-job-name", "cli", check=False
    )


def test_the_aws_cli_follows_a_log_and_reads_metrics_as_data(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    client.create_training_job(**job_request("tail", tmp_path, HyperParameters={"steps": "3", "sleep_s": "4"}))
    [stream] = wait_for(lambda: streams_of(emulator, "tail/"))
    read = ["logs", "get-log-events", "--log-group-name", GROUP, "--log-stream-name", stream, "--start-from-head"]
    lines: list[str] = []
    token: list[str] = []
    while len(lines) < 4:
        page = emulator.aws(*read, "--limit", "3", *token)
        lines += [event["message"] for event in page["events"]]
        token = ["--next-token", page["nextForwardToken"]]
    assert lines == ["hello from tail", *[f"step={step} loss={1 / (step + 1)}" for step in range(3)]]
    wait_for_status(client, "tail", "Completed")
    queries = [metric("loss", "train:loss", "TrainingJobName", "tail", "Minimum")]
    queries.append(metric("cpu", "CPUUtilization", "Host", "tail/algo-1", "Maximum"))
    found = emulator.aws("cloudwatch", "get-metric-data", *ALWAYS, "--metric-data-queries", json.dumps(queries))
    values = {one["Id"]: one["Values"] for one in found["MetricDataResults"]}
    assert values["loss"] == [1 / 3]
    assert len(values["cpu"]) == 1


def streams_of(emulator: Emulator, prefix: str) -> list[str]:
    found = emulator.client("logs").describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=prefix)
    return [one["logStreamName"] for one in found["logStreams"]]


def metric(query: str, name: str, dimension: str, value: str, stat: str) -> dict[str, Any]:
    asked = {"Namespace": GROUP, "MetricName": name, "Dimensions": [{"Name": dimension, "Value": value}]}
    return {"Id": query, "MetricStat": {"Metric": asked, "Period": 86_400, "Stat": stat}}


def test_the_aws_cli_turns_the_pages_of_a_list(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    names = [f"page-{number}" for number in range(3)]
    for name in names:
        client.create_training_job(**job_request(name, tmp_path / name))
        wait_for_status(client, name, "Completed")
    wanted = ["sagemaker", "list-training-jobs", "--name-contains", "page-", "--sort-by", "Name"]
    wanted += ["--sort-order", "Ascending"]
    whole = emulator.aws(*wanted, "--page-size", "1")["TrainingJobSummaries"]
    assert [one["TrainingJobName"] for one in whole] == names
    first = emulator.aws(*wanted, "--max-items", "2")
    rest = emulator.aws(*wanted, "--max-items", "2", "--starting-token", first["NextToken"])
    pages = [[one["TrainingJobName"] for one in page["TrainingJobSummaries"]] for page in (first, rest)]
    assert pages == [names[:2], names[2:]]
    assert "NextToken" not in rest
    filters = ["--status-equals", "Completed", "--creation-time-after", "2020-01-01T00:00:00Z"]
    assert len(emulator.aws(*wanted, *filters)["TrainingJobSummaries"]) == 3
    assert emulator.aws(*wanted, "--creation-time-before", "2020-01-01T00:00:00Z")["TrainingJobSummaries"] == []


def test_the_aws_cli_keeps_models_and_configurations(emulator: Emulator) -> None:
    container = "Image=kennel-serve,Environment={A=1}"
    emulator.aws("sagemaker", "create-model", "--model-name", "cli", "--primary-container", container)
    variant = "VariantName=all,ModelName=cli,InitialInstanceCount=1,InstanceType=ml.m5.large"
    name = ["--endpoint-config-name", "cli"]
    emulator.aws("sagemaker", "create-endpoint-config", *name, "--production-variants", variant)
    config = emulator.aws("sagemaker", "describe-endpoint-config", *name)
    assert config["ProductionVariants"][0]["InitialVariantWeight"] == 1.0
    emulator.aws("sagemaker", "delete-endpoint-config", *name)
    emulator.aws("sagemaker", "delete-model", "--model-name", "cli")
    assert f'Could not find model "{ARN}:model/cli"' in emulator.aws(
        "sagemaker", "describe-model", "--model-name", "cli", check=False
    )
    assert emulator.aws("sts", "get-caller-identity")["Account"] == "000000000000"


def test_a_profile_that_prints_the_key_file_is_enough(emulator: Emulator, tmp_path: Path) -> None:
    config = tmp_path / "config"
    command = f"cat {emulator.home / 'credentials.json'}"
    config.write_text(
        f"[profile kennel]\nregion = {REGION}\nendpoint_url = {emulator.url}\ncredential_process = {command}\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environ |= {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "kennel", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    program = Path(sys.executable).with_name("aws")
    done = subprocess.run(
        [program, "sts", "get-caller-identity"], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["UserId"] == "KENNEL"


SDK = """
import json, logging, pathlib, sys

logging.basicConfig(level="INFO")  # the SDK shows a job's lines through its logger
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, TrainingJob, TransformJob
from sagemaker.core.shapes import (
    AlgorithmSpecification, Channel, ContainerDefinition, DataSource, MetricDefinition, OutputDataConfig,
    ProductionVariant, ResourceConfig, S3DataSource, StoppingCondition, TransformDataSource, TransformInput,
    TransformOutput, TransformResources, TransformS3DataSource,
)

ROLE = "arn:aws:iam::000000000000:role/kennel"

given = json.loads(sys.argv[1])
said = {}
source = S3DataSource(s3_data_type="S3Prefix", s3_uri=given["input"])
job = TrainingJob.create(
    training_job_name="sdk",
    role_arn=ROLE,
    algorithm_specification=AlgorithmSpecification(
        training_image="tiny:1", training_input_mode="File",
        metric_definitions=[MetricDefinition(name="train:loss", regex="loss=([0-9.]+)")],
    ),
    input_data_config=[Channel(channel_name="train", data_source=DataSource(s3_data_source=source))],
    output_data_config=OutputDataConfig(s3_output_path=given["output"]),
    resource_config=ResourceConfig(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=30),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=600),
    hyper_parameters={"steps": "2"},
)
job.wait(poll=1, logs=True)
job.refresh()
said["status"] = [job.training_job_status, job.model_artifacts.s3_model_artifacts]
said["metric"] = [job.final_metric_data_list[0].metric_name]
said["listed"] = [[one.training_job_name for one in TrainingJob.get_all(name_contains="sdk")]]
model = Model.create(model_name="sdk", execution_role_arn=ROLE, primary_container=ContainerDefinition(
    image="kennel-serve", model_data_url=job.model_artifacts.s3_model_artifacts))
variant = ProductionVariant(
    variant_name="all", model_name="sdk", instance_type="ml.m5.large", initial_instance_count=1)
config = EndpointConfig.create(endpoint_config_name="sdk", production_variants=[variant])
said["config"] = [EndpointConfig.get("sdk").production_variants[0].model_name]

endpoint = Endpoint.create(endpoint_name="sdk", endpoint_config_name="sdk")
endpoint.wait_for_status("InService", poll=1)
answer = endpoint.invoke(body=b"photo", content_type="image/jpeg", accept="application/json")
said["invoked"] = [answer.invoked_production_variant, json.loads(answer.body.read())["body_bytes"]]
said["endpoints"] = [[one.endpoint_name for one in Endpoint.get_all(status_equals="InService")]]
endpoint.delete()
endpoint.wait_for_delete(poll=1)

batch = TransformJob.create(
    transform_job_name="sdk", model_name="sdk",
    transform_input=TransformInput(
        data_source=TransformDataSource(s3_data_source=TransformS3DataSource(
            s3_data_type="S3Prefix", s3_uri=given["input"])),
        content_type="text/plain"),
    transform_output=TransformOutput(s3_output_path=given["output"] + "/batch"),
    transform_resources=TransformResources(instance_type="ml.m5.large", instance_count=1),
)
batch.wait(poll=1)
batch.refresh()
said["batch"] = [batch.transform_job_status, [one.transform_job_name for one in TransformJob.get_all()]]

config.delete()
model.delete()
said["left"] = [len(list(Model.get_all())), len(list(Endpoint.get_all()))]
pathlib.Path(given["said"]).write_text(json.dumps(said))
"""


def test_the_sagemaker_sdk_trains_waits_with_logs_deploys_invokes_and_transforms(
    emulator: Emulator, tmp_path: Path
) -> None:
    request = job_request("sdk", tmp_path)
    channel = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    given = {"input": channel["S3Uri"], "output": request["OutputDataConfig"]["S3OutputPath"]}
    given["said"] = str(tmp_path / "said.json")
    environ = {**emulator.environ(), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SDK, json.dumps(given)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((tmp_path / "said.json").read_text())
    assert said == {
        "status": ["Completed", f"{given['output']}/sdk/output/model.tar.gz"],
        "metric": ["train:loss"],
        "listed": [["sdk"]],
        "config": ["sdk"],
        "invoked": ["all", 5],
        "endpoints": [["sdk"]],
        "batch": ["Completed", ["sdk"]],
        "left": [0, 0],
    }
    assert (tmp_path / "output/batch/data.txt.out").exists()
    assert "hello from sdk" in done.stdout + done.stderr, "wait(logs=True) shows the container's lines"
