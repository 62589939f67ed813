"""The aws CLI and SageMaker's SDK, unmodified, against a server of their own: they know its URL and its key."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.emulator.emulator_harness import REGION, Emulator, job_request, wait_for_status

ARN = f"arn:aws:sagemaker:{REGION}:000000000000"
GROUP = "/aws/sagemaker/TrainingJobs"


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
    times = ["--start-time", "2020-01-01T00:00:00Z", "--end-time", "2100-01-01T00:00:00Z", "--period", "86400"]
    statistics = emulator.aws(
        "cloudwatch", "get-metric-statistics", "--namespace", GROUP, "--metric-name", "train:loss", *dimensions, *times,
        "--statistics", "Maximum", "SampleCount",
    )  # fmt: skip
    assert [(one["Maximum"], one["SampleCount"]) for one in statistics["Datapoints"]] == [(1.0, 2.0)]
    emulator.aws("sagemaker", "delete-training-job", "--training-job-name", "cli")
    assert "(ResourceNotFound)" in emulator.aws(
        "sagemaker", "describe-training-job", "--training-job-name", "cli", check=False
    )


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
import json, logging, sys

logging.basicConfig(level="INFO")  # the SDK shows a job's lines through its logger
from sagemaker.core.resources import EndpointConfig, Model, TrainingJob
from sagemaker.core.shapes import (
    AlgorithmSpecification, Channel, ContainerDefinition, DataSource, MetricDefinition, OutputDataConfig,
    ProductionVariant, ResourceConfig, S3DataSource, StoppingCondition,
)

given = json.loads(sys.argv[1])
source = S3DataSource(s3_data_type="S3Prefix", s3_uri=given["input"])
job = TrainingJob.create(
    training_job_name="sdk",
    role_arn="arn:aws:iam::000000000000:role/kennel",
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
print("status", job.training_job_status, job.model_artifacts.s3_model_artifacts)
print("metric", job.final_metric_data_list[0].metric_name)
print("listed", [one.training_job_name for one in TrainingJob.get_all(name_contains="sdk")])
model = Model.create(model_name="sdk", primary_container=ContainerDefinition(
    image="kennel-serve", model_data_url=job.model_artifacts.s3_model_artifacts))
variant = ProductionVariant(
    variant_name="all", model_name="sdk", instance_type="ml.m5.large", initial_instance_count=1)
config = EndpointConfig.create(endpoint_config_name="sdk", production_variants=[variant])
print("config", EndpointConfig.get("sdk").production_variants[0].model_name)
config.delete()
model.delete()
print("left", len(list(Model.get_all())))
"""


def test_the_sagemaker_sdk_trains_waits_with_logs_and_makes_a_model(emulator: Emulator, tmp_path: Path) -> None:
    request = job_request("sdk", tmp_path)
    channel = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    given = {"input": channel["S3Uri"], "output": request["OutputDataConfig"]["S3OutputPath"]}
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
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert said["status"] == f"Completed {given['output']}/sdk/output/model.tar.gz"
    assert said["metric"] == "train:loss"
    assert said["listed"] == "['sdk']"
    assert said["config"] == "sdk"
    assert said["left"] == "0"
    assert "hello from sdk" in done.stdout + done.stderr, "wait(logs=True) shows the container's lines"
