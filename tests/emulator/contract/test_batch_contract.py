"""What SageMaker promises a container of a batch transform job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from tests.emulator.contract.contract_harness import Platform, both_runners
from tests.emulator.emulator_harness import wait_for

pytestmark = both_runners


def request(name: str, folder: Path, **members: Any) -> dict[str, Any]:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in/a").write_text("{}")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": (folder / "in").as_uri()}}
    return {
        "TransformJobName": name,
        "ModelName": "batch",
        "TransformInput": {"DataSource": source, "ContentType": "application/json"},
        "TransformOutput": {"S3OutputPath": (folder / "out").as_uri(), "Accept": "application/json"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **members,
    }


def run(platform: Platform, name: str, folder: Path, **members: Any) -> dict[str, Any]:
    """What the probe said to the one object, or the job when it has failed."""
    if not platform.sagemaker.list_models(NameContains="batch")["Models"]:
        platform.model("batch")
    platform.sagemaker.create_transform_job(**request(name, folder, **members))

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = platform.sagemaker.describe_transform_job(TransformJobName=name)
        return found if found["TransformJobStatus"] in ("Completed", "Failed") else None

    job: dict[str, Any] = wait_for(ended, 90)
    if job["TransformJobStatus"] == "Failed":
        return job
    said: dict[str, Any] = json.loads((folder / "out/a.out").read_text())
    return said


def test_the_container_knows_that_it_is_a_batch_and_the_requests_limits(platform: Platform, tmp_path: Path) -> None:
    limits = {"MaxPayloadInMB": 2, "MaxConcurrentTransforms": 3, "BatchStrategy": "SingleRecord"}
    said = run(platform, "limits", tmp_path, **limits, Environment={"MY_OWN": "x"})
    assert said["arguments"] == ["serve"]
    assert (
        said["environ"].items()
        >= {
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2",
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
            "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
            "MY_OWN": "x",
        }.items()
    )
    assert said["headers"]["accept"] == "application/json"


def test_the_container_may_say_its_own_limits(platform: Platform, tmp_path: Path) -> None:
    told = {"MaxPayloadInMB": 4, "MaxConcurrentTransforms": 5, "BatchStrategy": "MULTI_RECORD"}
    run(platform, "told", tmp_path, Environment={"TELL": json.dumps(told)})
    run(platform, "untold", tmp_path)
    lines = platform.log("/aws/sagemaker/TransformJobs")
    assert "[sagemaker logs]: MaxConcurrentTransforms=5, MaxPayloadInMB=4, BatchStrategy=MULTI_RECORD" in lines
    assert "[sagemaker logs]: MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD" in lines


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"MaxPayloadInMB": 101}, "100"),
        ({"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3}, "100 MB"),
        ({"ModelClientConfig": {"InvocationsTimeoutInSeconds": 0}}, "InvocationsTimeoutInSeconds"),
        ({"ModelClientConfig": {"InvocationsTimeoutInSeconds": 3601}}, "3600"),
        ({"ModelClientConfig": {"InvocationsMaxRetries": 4}}, "3"),
    ],
)
def test_limits_beyond_sagemakers_are_refused(
    platform: Platform, tmp_path: Path, members: dict[str, Any], match: str
) -> None:
    with pytest.raises((ClientError, ParamValidationError), match=match):
        platform.sagemaker.create_transform_job(**request("beyond", tmp_path, **members))


def test_an_answer_that_does_not_come_in_time_is_given_up(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    config = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
    (tmp_path / "in/slow").write_text(json.dumps({"sleep_s": 30}))
    found = run(platform, "slow", tmp_path, ModelClientConfig=config)
    assert found["TransformJobStatus"] == "Failed"
    assert "did not answer within 1 s (InvocationsTimeoutInSeconds)" in found["FailureReason"]
