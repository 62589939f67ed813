"""Training jobs through boto3: what is stored, shown, listed, stopped and deleted."""

import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kennel.emulator.service_model.protocol import operation_model
from kennel.emulator.service_model.validation import problems_of
from tests.emulator.emulator_harness import REGION, Emulator, job_request, run_job, running, wait_for, wait_for_status


def code_of(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def test_a_job_runs_and_describe_tells_all_of_it(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    before_s = time.time()
    request = job_request("whole", tmp_path, HyperParameters={"steps": "3"}, Environment={"A": "b"})
    created = client.create_training_job(**request)
    assert created["TrainingJobArn"] == f"arn:aws:sagemaker:{REGION}:000000000000:training-job/whole"
    first = client.describe_training_job(TrainingJobName="whole")
    assert first["TrainingJobStatus"] == "InProgress"
    assert abs(first["CreationTime"].timestamp() - before_s) < 30
    client.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName="whole", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    job = client.describe_training_job(TrainingJobName="whole")
    for name, value in request.items():
        if name not in ("InputDataConfig", "OutputDataConfig", "AlgorithmSpecification"):
            assert job[name] == value, name
    assert job["AlgorithmSpecification"].items() >= request["AlgorithmSpecification"].items()
    assert job["OutputDataConfig"] == {**request["OutputDataConfig"], "CompressionType": "GZIP"}
    assert job["EnableManagedSpotTraining"] is False
    assert job["FinalMetricDataList"][0]["MetricName"] == "train:loss"
    assert job["ModelArtifacts"]["S3ModelArtifacts"].endswith("/whole/output/model.tar.gz")
    transitions = [one["Status"] for one in job["SecondaryStatusTransitions"]]
    assert (transitions[0], transitions[-1], job["SecondaryStatus"]) == ("Starting", "Completed", "Completed")


def test_an_answer_is_what_the_model_says(emulator: Emulator, tmp_path: Path) -> None:
    job = run_job(emulator, "shaped", tmp_path)
    job.pop("ResponseMetadata")

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return value.timestamp() if hasattr(value, "timestamp") else value

    assert problems_of(plain(job), operation_model("sagemaker", "DescribeTrainingJob").output_shape) == []


def test_a_failure_of_the_program_is_the_reason(emulator: Emulator, tmp_path: Path) -> None:
    job = run_job(emulator, "failing", tmp_path, HyperParameters={"fail": "no more cheese"})
    assert job["TrainingJobStatus"] == "Failed"
    assert "no more cheese" in job["FailureReason"]


def test_a_name_is_taken_for_ever(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    request = job_request("taken", tmp_path)
    client.create_training_job(**request)
    with pytest.raises(client.exceptions.ResourceInUse, match="already exists"):
        client.create_training_job(**request)
    wait_for_status(client, "taken", "Completed")
    with pytest.raises(client.exceptions.ResourceInUse, match="Choose another name"):
        client.create_training_job(**request)


def test_what_is_not_there_is_not_found(emulator: Emulator) -> None:
    client = emulator.client("sagemaker")
    for call in (client.describe_training_job, client.stop_training_job, client.delete_training_job):
        with pytest.raises(client.exceptions.ResourceNotFound, match="Requested resource not found"):
            call(TrainingJobName="nothing")


def test_a_request_with_many_faults_hears_of_all_of_them(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    request = job_request("wrong_name", tmp_path, RoleArn="arn:aws:iam::me:role/a")
    request["ResourceConfig"]["InstanceType"] = "ml.m5.larg"
    code, message = code_of(client.create_training_job, **request)
    assert code == "ValidationException"
    assert message.startswith("3 validation errors detected: ")
    assert "did you mean 'ml.m5.large'?" in message


def test_what_cannot_be_done_here_is_refused_before_anything_is_stored(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    request = job_request("refused", tmp_path)
    del request["AlgorithmSpecification"]["TrainingImage"], request["ResourceConfig"]["InstanceType"]
    request["AlgorithmSpecification"]["AlgorithmName"] = "linear-learner"
    code, message = code_of(client.create_training_job, **request)
    assert (code, message[:29]) == ("ValidationException", "3 validation errors detected:")
    assert "TrainingImage must not be null" in message
    assert "'AlgorithmSpecification.AlgorithmName' is not emulated" in message
    request = job_request("refused", tmp_path)
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = (tmp_path / "nowhere").as_uri()
    code, message = code_of(client.create_training_job, **request)
    assert code == "ValidationException"
    assert "nowhere" in message
    assert code_of(client.describe_training_job, TrainingJobName="refused")[0] == "ResourceNotFound"


def test_what_has_no_effect_is_told_in_the_warnings_log(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    vpc = {"SecurityGroupIds": ["sg-0"], "Subnets": ["subnet-0"]}
    client.create_training_job(**job_request("warned", tmp_path, VpcConfig=vpc))
    wait_for_status(client, "warned", "Completed")
    assert client.describe_training_job(TrainingJobName="warned")["VpcConfig"] == vpc
    events = emulator.client("logs").get_log_events(
        logGroupName="/kennel/warnings", logStreamName="training-job/warned", startFromHead=True
    )["events"]
    assert "VpcConfig.Subnets has no effect here: there are no VPCs here" in [one["message"] for one in events]


def test_fast_file_mode_from_s3_is_told_to_be_a_copy(emulator: Emulator, tmp_path: Path) -> None:
    request = job_request("fast", tmp_path)
    request["InputDataConfig"][0] |= {"InputMode": "FastFile"}
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = "s3://nobodys-bucket/x"
    emulator.client("sagemaker").create_training_job(**request)
    events = emulator.client("logs").get_log_events(
        logGroupName="/kennel/warnings", logStreamName="training-job/fast", startFromHead=True
    )["events"]
    assert any("FastFile mode copies 's3://nobodys-bucket/x' before" in event["message"] for event in events)


def test_a_stop_is_told_at_once_and_ends_the_job(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    client.create_training_job(**job_request("endless", tmp_path, HyperParameters={"sleep_s": "600"}))
    logs = emulator.client("logs")

    def started() -> bool:
        groups = logs.describe_log_groups()["logGroups"]
        if "/aws/sagemaker/TrainingJobs" not in [group["logGroupName"] for group in groups]:
            return False
        found = logs.filter_log_events(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="endless/", filterPattern="loss"
        )
        return bool(found["events"])

    wait_for(started)
    with pytest.raises(client.exceptions.ResourceInUse, match="is in status InProgress"):
        client.delete_training_job(TrainingJobName="endless")
    client.stop_training_job(TrainingJobName="endless")
    assert client.describe_training_job(TrainingJobName="endless")["TrainingJobStatus"] in ("Stopping", "Stopped")
    client.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName="endless", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    job = client.describe_training_job(TrainingJobName="endless")
    assert job["TrainingJobStatus"] == "Stopped"
    assert "Stopping" in [one["Status"] for one in job["SecondaryStatusTransitions"]]
    code, message = code_of(client.stop_training_job, TrainingJobName="endless")
    assert (code, message) == (
        "ValidationException",
        "The request was rejected because the training job is in status Stopped.",
    )


def test_a_deleted_job_leaves_nothing_but_its_output(emulator: Emulator, tmp_path: Path) -> None:
    client, logs = emulator.client("sagemaker"), emulator.client("logs")
    job = run_job(emulator, "deleted", tmp_path)
    client.delete_training_job(TrainingJobName="deleted")
    assert code_of(client.describe_training_job, TrainingJobName="deleted")[0] == "ResourceNotFound"
    streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="deleted/")[
        "logStreams"
    ]
    assert streams == []
    assert not (emulator.home / "jobs/deleted").exists()
    assert Path(job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("file://")).exists()
    assert run_job(emulator, "deleted", tmp_path)["TrainingJobStatus"] == "Completed"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Seven jobs in a home of their own: a-0 … a-3, b-0 … b-2; b-1 fails."""
    folder = tmp_path_factory.mktemp("listed")
    with running(folder / "home") as server:
        client = server.client("sagemaker")
        names = ["b-0", "a-0", "b-1", "a-1", "a-2", "b-2", "a-3"]
        for name in names:
            failing = {"HyperParameters": {"fail": "so it was wanted"}} if name == "b-1" else {}
            client.create_training_job(**job_request(name, folder, **failing))
        for name in names:
            wait_for_status(client, name, "Completed", "Failed")
        yield client


def names_of(client: Any, **request: Any) -> list[str]:
    pages = client.get_paginator("list_training_jobs").paginate(**request)
    return [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]


def test_a_list_is_in_the_order_of_creation_unless_it_is_told_otherwise(listed: Any) -> None:
    by_age = ["b-0", "a-0", "b-1", "a-1", "a-2", "b-2", "a-3"]
    assert names_of(listed) == by_age
    assert names_of(listed, SortOrder="Descending") == by_age[::-1]
    assert names_of(listed, SortBy="Name") == sorted(by_age)
    assert names_of(listed, SortBy="Name", SortOrder="Descending") == sorted(by_age)[::-1]
    assert names_of(listed, SortBy="Status")[-1] == "b-1"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_of_any_size_have_each_job_once(listed: Any, size: int) -> None:
    config = {"PageSize": size}
    for order in ("Ascending", "Descending"):
        for by in ("Name", "CreationTime", "Status"):
            found = names_of(listed, SortBy=by, SortOrder=order, PaginationConfig=config)
            assert sorted(found) == ["a-0", "a-1", "a-2", "a-3", "b-0", "b-1", "b-2"]
            assert found == names_of(listed, SortBy=by, SortOrder=order)


def test_a_list_is_filtered_by_name_status_and_time(listed: Any) -> None:
    assert names_of(listed, NameContains="b-") == ["b-0", "b-1", "b-2"]
    assert names_of(listed, StatusEquals="Failed") == ["b-1"]
    assert names_of(listed, StatusEquals="InProgress") == []
    third = listed.describe_training_job(TrainingJobName="a-1")["CreationTime"].timestamp()
    assert names_of(listed, CreationTimeAfter=third + 0.001) == ["a-2", "b-2", "a-3"]
    assert names_of(listed, CreationTimeBefore=third - 0.001) == ["b-0", "a-0", "b-1"]
    assert names_of(listed, LastModifiedTimeAfter=time.time() + 100) == []
    assert names_of(listed, WarmPoolStatusEquals="InUse") == []
    plan = f"arn:aws:sagemaker:{REGION}:000000000000:training-plan/p"
    assert names_of(listed, TrainingPlanArnEquals=plan) == []


def test_a_summary_has_times_and_status(listed: Any) -> None:
    page = listed.list_training_jobs(MaxResults=1)
    [summary] = page["TrainingJobSummaries"]
    assert set(summary) >= {"TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "TrainingJobStatus"}
    assert "HyperParameters" not in summary
    code, message = code_of(listed.list_training_jobs, NextToken="forged")
    assert (code, "List from the start" in message) == ("ValidationException", True)


def test_tags_come_with_a_job_and_can_be_changed(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    tags = [{"Key": "team", "Value": "hounds"}]
    arn = client.create_training_job(**job_request("tagged", tmp_path, Tags=tags))["TrainingJobArn"]
    assert client.list_tags(ResourceArn=arn)["Tags"] == tags
    changed = client.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "cats"}, {"Key": "x", "Value": ""}])
    assert changed["Tags"] == [{"Key": "team", "Value": "cats"}, {"Key": "x", "Value": ""}]
    client.delete_tags(ResourceArn=arn, TagKeys=["team", "nothing"])
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "x", "Value": ""}]
    wait_for_status(client, "tagged", "Completed")
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "x", "Value": ""}]
    client.delete_training_job(TrainingJobName="tagged")
    assert "Could not find the resource" in code_of(client.list_tags, ResourceArn=arn)[1]


def test_tags_that_aws_would_not_take_are_refused(emulator: Emulator) -> None:
    client = emulator.client("sagemaker")
    client.create_model(ModelName="tags", PrimaryContainer={"Image": "kennel-serve"})
    arn = client.describe_model(ModelName="tags")["ModelArn"]
    for tags, message in (
        ([{"Key": "aws:a", "Value": ""}], "reserved"),
        ([{"Key": "a", "Value": ""}, {"Key": "a", "Value": "1"}], "given twice"),
    ):
        assert message in code_of(client.add_tags, ResourceArn=arn, Tags=tags)[1]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": str(n), "Value": ""} for n in range(30)])
    more = [{"Key": str(n), "Value": ""} for n in range(25, 51)]
    assert "There would be 51 tags" in code_of(client.add_tags, ResourceArn=arn, Tags=more)[1]
    assert "Invalid ARN" in code_of(client.list_tags, ResourceArn="arn:aws:sagemaker:x:000000000000:model/a")[1]
