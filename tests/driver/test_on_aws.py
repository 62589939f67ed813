"""The command against moto's AWS: what is created, recorded, deleted, and told. moto runs no containers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kennel.driver.requests.validate import problems
from tests.driver.conftest import REGION, ROLE, SERVE_IMAGE, TRAIN_IMAGE, Aws, Kennel

ARTIFACT = "s3://dogs/model.tar.gz"


def recorded(kennel: Kennel) -> dict[str, str]:
    values = json.loads((kennel.home / "created.json").read_text())
    return {f"{entry['kind']} {entry['name']}": entry["state"] for entry in values["entries"]}


def test_train_uploads_checks_creates_and_records(on_aws: Kennel, aws: Aws, dataset: Path) -> None:
    done = on_aws(
        "train", dataset, "epochs=2", "--spot", "--no-wait", "--name", "job1", "--instance-type", "ml.g4dn.xlarge"
    )
    assert done.code == 0, done.err
    assert done.err.startswith("estimate: 1 x ml.g4dn.xlarge: 0.736 USD an hour, 17.66 USD at most")
    assert "role kennel: trusts SageMaker" in done.err
    job = aws.client("sagemaker").describe_training_job(TrainingJobName="job1")
    assert job["AlgorithmSpecification"]["TrainingImage"] == TRAIN_IMAGE
    assert job["RoleArn"] == ROLE
    assert job["HyperParameters"] == {"epochs": "2"}
    assert job["EnableManagedSpotTraining"]
    assert job["CheckpointConfig"]["S3Uri"] == "s3://dogs/kennel/checkpoints/job1"
    channels = {c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in job["InputDataConfig"]}
    assert set(channels) == {"train", "validation", "test"}
    listed = aws.client("s3").list_objects_v2(Bucket="dogs", Prefix=channels["validation"].removeprefix("s3://dogs/"))
    assert listed["KeyCount"] == 8
    states = recorded(on_aws)
    assert states["training-job job1"] == "created"
    assert states[f"data {channels['train']}"] == "created"
    again = on_aws("train", dataset, "--no-wait")
    assert again.err.count("0 files sent") == 3


def test_a_dry_run_prints_the_request_and_sends_nothing(on_aws: Kennel, aws: Aws, dataset: Path) -> None:
    done = on_aws("train", dataset, "--dry-run", "epochs=2")
    request = json.loads(done.out)
    assert problems("CreateTrainingJob", request, file_uris=False) == []
    assert "estimate: 1 x ml.m5.xlarge" in done.err
    assert aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    assert aws.client("s3").list_objects_v2(Bucket="dogs")["KeyCount"] == 0
    assert not (on_aws.home / "created.json").exists()
    whole = on_aws("deploy", ARTIFACT, "--dry-run", "--json").json
    assert [step["operation"] for step in whole["requests"]] == [
        "CreateModel",
        "CreateEndpointConfig",
        "CreateEndpoint",
    ]
    assert whole["price"]["estimate"] is True


def test_nothing_is_uploaded_for_a_request_that_would_be_refused(on_aws: Kennel, aws: Aws, dataset: Path) -> None:
    done = on_aws("train", dataset, "--instance-type", "ml.g4dn.xlarg")
    assert done.code == 1
    assert "InstanceType is 'ml.g4dn.xlarg'; did you mean ml.g4dn.xlarge" in done.err
    missing = on_aws("train", dataset, "--bucket", "cats")
    assert "bucket cats: does not exist." in missing.err
    assert "aws s3 mb s3://cats" in missing.err
    assert aws.client("s3").list_objects_v2(Bucket="dogs")["KeyCount"] == 0


def test_a_plan_that_fails_leaves_the_record_as_it_was(on_aws: Kennel, dataset: Path) -> None:
    assert on_aws("deploy", ARTIFACT, "--name", "e1").code == 0
    assert on_aws("train", "s3://dogs/train/", "--no-wait", "--name", "job1").code == 0
    before = recorded(on_aws)
    assert before["training-job job1"] == before["endpoint e1"] == "created"
    nobody = on_aws("transform", "nobody", dataset / "test")
    assert "There is no job 'nobody' on aws" in nobody.err
    assert recorded(on_aws) == before


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_may_come_from_the_environment(on_aws: Kennel, variable: str) -> None:
    project = on_aws.folder / "kennel.toml"
    project.write_text(project.read_text().replace(f'region = "{REGION}"\n', ""))
    nowhere = on_aws("doctor", AWS_REGION="")
    assert "No region." in nowhere.err
    assert "in eu-central-1" in on_aws("doctor", **{"AWS_REGION": "", variable: REGION}).out


def test_an_endpoint_scales_and_is_updated(on_aws: Kennel, aws: Aws) -> None:
    done = on_aws("deploy", ARTIFACT, "--name", "e1", "--autoscale", "1:3", "--instance-count", "2")
    assert done.code == 0, done.err
    config = aws.client("sagemaker").describe_endpoint_config(
        EndpointConfigName=aws.client("sagemaker").describe_endpoint(EndpointName="e1")["EndpointConfigName"]
    )
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 2
    scaling = aws.client("application-autoscaling")
    [target] = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
    [policy] = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 70.0
    again = on_aws("deploy", ARTIFACT, "--name", "e1", "--dry-run", "--json").json["requests"]
    assert again[-1]["operation"] == "UpdateEndpoint"  # which moto does not have
    assert again[-1]["request"]["EndpointName"] == "e1"
    assert [row["endpoint"] for row in on_aws("endpoints", "--json").json] == ["e1"]


def test_a_dry_run_shows_how_an_endpoint_would_scale(on_aws: Kennel) -> None:
    steps = on_aws("deploy", ARTIFACT, "--autoscale", "1:3", "--dry-run", "--json").json["requests"]
    assert [step["operation"] for step in steps[-2:]] == ["RegisterScalableTarget", "PutScalingPolicy"]
    assert (steps[-2]["request"]["MinCapacity"], steps[-2]["request"]["MaxCapacity"]) == (1, 3)
    refused = on_aws("deploy", ARTIFACT, "--autoscale", "0:3", "--dry-run")
    assert "Scaling from 0 to 3 instances is no range from 1 on." in refused.err


@pytest.mark.parametrize(
    ("flags", "member"), [(["--serverless"], "ServerlessConfig"), (["--async"], ""), (["--capture", "50"], "")]
)
def test_other_kinds_of_endpoints(on_aws: Kennel, flags: list[str], member: str) -> None:
    whole = on_aws("deploy", ARTIFACT, *flags, "--dry-run", "--json").json
    config = whole["requests"][1]["request"]
    if member:
        assert member in config["ProductionVariants"][0]
        assert whole["price"] is None  # paid by the request
    if flags == ["--async"]:
        assert config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"].startswith("s3://dogs/kennel/async/")
    if "--capture" in flags:
        assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 50


def test_keys_networks_and_isolation_are_passed_through(on_aws: Kennel, dataset: Path) -> None:
    project = on_aws.folder / "kennel.toml"
    project.write_text(
        "network_isolation = true\nencrypt_traffic = true\n"
        + project.read_text()
        + '[vpc]\nsubnets = ["subnet-1"]\nsecurity_groups = ["sg-1"]\n[kms]\nvolume = "alias/v"\noutput = "alias/o"\n'
    )
    request = json.loads(on_aws("train", dataset, "--dry-run").out)
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert request["EnableNetworkIsolation"]
    assert request["EnableInterContainerTrafficEncryption"]
    assert request["ResourceConfig"]["VolumeKmsKeyId"] == "alias/v"
    assert request["OutputDataConfig"]["KmsKeyId"] == "alias/o"
    refused = on_aws("deploy", ARTIFACT, "--serverless", "--dry-run")
    assert "neither VPC nor network isolation" in refused.err


def test_a_local_model_folder_is_packed_and_uploaded(on_aws: Kennel, aws: Aws, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    refused = on_aws("deploy", model)
    assert "has no meta.json" in refused.err
    (model / "meta.json").write_text("{}")
    (model / "weights.safetensors").write_bytes(b"w" * 100)
    done = on_aws("deploy", model, "--json")
    bucket_key = done.json["artifact"].removeprefix("s3://dogs/")
    import io
    import tarfile

    body = aws.client("s3").get_object(Bucket="dogs", Key=bucket_key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert tar.getnames() == ["meta.json", "weights.safetensors"]


@pytest.mark.parametrize(
    "words", [("train",), ("deploy", ARTIFACT), ("transform", ARTIFACT)], ids=lambda words: words[0]
)
def test_a_bucket_of_another_region_is_refused_before_anything_is_made(
    on_aws: Kennel, aws: Aws, dataset: Path, words: tuple[str, ...]
) -> None:
    place = {"LocationConstraint": "eu-west-1"}
    aws.client("s3", "eu-west-1").create_bucket(Bucket="irish", CreateBucketConfiguration=place)
    data = () if words[0] == "deploy" else (dataset,)
    done = on_aws(*words, *data, "--bucket", "irish", "--no-wait")
    assert done.code == 1
    assert f"lies in eu-west-1, the job would run in {REGION}." in done.err
    assert "Contents" not in aws.client("s3", "eu-west-1").list_objects_v2(Bucket="irish")
    assert not aws.client("sagemaker").list_models()["Models"]


def test_clean_deletes_everything_once_and_names_what_is_left(on_aws: Kennel, aws: Aws, dataset: Path) -> None:
    assert on_aws("deploy", ARTIFACT, "--name", "e1", "--autoscale", "1:2").code == 0
    assert on_aws("transform", ARTIFACT, dataset / "test", "--no-wait").code == 0
    aws.client("sagemaker").delete_endpoint(EndpointName="e1")  # somebody was faster
    shown = on_aws("clean", "--dry-run", "--json").json
    assert [row["kind"] for row in shown] == [
        "scaling-target", "endpoint", "endpoint-config", "transform-job", "model", "model",
    ]  # fmt: skip
    done = on_aws("clean", "--json")
    assert [row["kind"] for row in done.json["left"]] == ["data"]
    sagemaker = aws.client("sagemaker")
    assert sagemaker.list_models()["Models"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert aws.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ] == []  # fmt: skip
    assert aws.client("s3").list_objects_v2(Bucket="dogs")["KeyCount"] == 8
    assert on_aws("clean", "--data").code == 0
    assert aws.client("s3").list_objects_v2(Bucket="dogs")["KeyCount"] == 0
    assert on_aws("clean", "--data").out == "Nothing to delete.\n"


def test_clean_of_one_end_names_what_the_other_has(on_aws: Kennel) -> None:
    assert on_aws("deploy", ARTIFACT, "--name", "e1").code == 0
    local = on_aws("clean", "--on", "local", "--dry-run")
    assert local.out == "Nothing to delete.\n"
    assert "Recorded on aws: 3; kennel clean --on aws deletes them." in local.err
    assert "Recorded on" not in on_aws("clean").err


def test_what_cannot_be_deleted_is_left_and_tried_again(on_aws: Kennel) -> None:
    """moto has no DeleteTrainingJob: it answers with an error, and the job stays recorded."""
    assert on_aws("train", "s3://dogs/train/", "--no-wait", "--name", "job1").code == 0
    done = on_aws("clean")
    assert done.code == 1
    assert done.out.startswith("left     training-job  job1: ")
    assert recorded(on_aws)["training-job job1"] == "created"


def test_costs_are_estimated_from_what_was_recorded(on_aws: Kennel) -> None:
    assert on_aws("deploy", ARTIFACT, "--name", "e1").code == 0
    whole = on_aws("cost", "--json").json
    [row] = whole["resources"]
    assert (row["kind"], row["name"], row["remark"]) == ("endpoint", "e1", "running")
    assert row["usd"] > 0
    assert whole["price_table"]["date"]


def test_doctor_looks_at_the_account(on_aws: Kennel) -> None:
    rows = {row["subject"]: row for row in on_aws("doctor", "--json").json}
    assert rows["bucket dogs"]["level"] == "ok"
    assert rows["credentials"]["text"].endswith("in eu-central-1")
    failed = on_aws("doctor", "--bucket", "cats")
    assert failed.code == 1
    assert "fail  bucket cats" in failed.out


def test_aws_needs_what_the_local_sagemaker_does_not(kennel: Kennel, dataset: Path) -> None:
    for missing, flags in (
        ("AWS needs a bucket", []),
        ("which AWS cannot pull", ["--bucket", "b"]),
        ("AWS needs a role", ["--bucket", "b", "--image", TRAIN_IMAGE]),
    ):
        done = kennel("train", dataset, "--on", "aws", "--dry-run", "--region", "eu-central-1", *flags)
        assert (done.code, missing in done.err) == (1, True), done.err
    assert SERVE_IMAGE not in done.err


def test_a_shell_that_talks_to_the_emulator_does_not_reach_aws_by_accident(on_aws: Kennel) -> None:
    """`--on aws` after eval "$(kennel env)": here without an emulator, so that only the region is missing."""
    done = on_aws("jobs", AWS_REGION="", AWS_ENDPOINT_URL_SAGEMAKER="http://127.0.0.1:1")
    assert done.code == 1
    assert "127.0.0.1:1" in done.err


def test_what_belongs_to_another_account_is_left_alone(on_aws: Kennel) -> None:
    """The other account does not know the name; taking that for "deleted" would leave the endpoint to cost."""
    assert on_aws("deploy", ARTIFACT, "--name", "e1").code == 0
    file = on_aws.home / "created.json"
    file.write_text(file.read_text().replace('"account": "123456789012"', '"account": "210987654321"'))
    done = on_aws("clean")
    assert done.code == 1
    assert "of account 210987654321; the credentials are those of 123456789012" in done.out
    assert recorded(on_aws)["endpoint e1"] == "created"
