"""The limits of a training request, as botocore's service model has them, on a server with each runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.emulator.contract.contract_harness import Platform, both_runners
from tests.emulator.emulator_harness import job_request

pytestmark = both_runners


def channels(count: int, folder: Path) -> list[dict[str, Any]]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": folder.as_uri()}}
    return [{"ChannelName": f"c{number}", "DataSource": source} for number in range(count)]


def metrics(count: int, regex: str = "x=([0-9])") -> dict[str, Any]:
    definitions = [{"Name": f"m{number}", "Regex": regex} for number in range(count)]
    return {"TrainingImage": "tiny:1", "TrainingInputMode": "File", "MetricDefinitions": definitions}


def create(platform: Platform, folder: Path, **members: Any) -> None:
    """Send a request as it is: botocore itself knows some of the limits, and would keep it back."""
    client = platform.emulator.client("sagemaker", config=Config(parameter_validation=False))
    client.create_training_job(**job_request("limits", folder, **members))


@pytest.mark.parametrize(
    ("hyperparameters", "match"),
    [
        ({f"h{number}": "x" for number in range(101)}, "less than or equal to 100"),
        ({"k" * 257: "x"}, "less than or equal to 256"),
        ({"k": "x" * 2501}, "less than or equal to 2500"),
        ({"k": 1}, "must be of type string"),
    ],
    ids=["101", "key of 257", "value of 2501", "number"],
)
def test_hyperparameters_beyond_their_limits_are_refused(
    platform: Platform, tmp_path: Path, hyperparameters: dict[str, Any], match: str
) -> None:
    with pytest.raises(ClientError, match=match):
        create(platform, tmp_path, HyperParameters=hyperparameters)


def test_more_than_twenty_channels_are_refused(platform: Platform, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="InputDataConfig.*less than or equal to 20"):
        create(platform, tmp_path, InputDataConfig=channels(21, tmp_path))


def test_more_than_forty_metrics_and_longer_expressions_are_refused(platform: Platform, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="MetricDefinitions.*less than or equal to 40"):
        create(platform, tmp_path, AlgorithmSpecification=metrics(41))
    with pytest.raises(ClientError, match="Regex.*less than or equal to 500"):
        create(platform, tmp_path, AlgorithmSpecification=metrics(1, "x" * 500 + "(1)"))


def test_a_request_at_its_limits_is_taken(platform: Platform, tmp_path: Path) -> None:
    hyperparameters = {f"{number:0256}": "x" * 2500 for number in range(100)}
    create(
        platform,
        tmp_path,
        HyperParameters=hyperparameters,
        InputDataConfig=channels(20, tmp_path),
        AlgorithmSpecification=metrics(40, "(1)".rjust(500, "x")) | {"TrainingImage": "no-such-image.invalid/x"},
    )
    found = platform.sagemaker.describe_training_job(TrainingJobName="limits")
    assert found["HyperParameters"] == hyperparameters
    assert (len(found["InputDataConfig"]), len(found["AlgorithmSpecification"]["MetricDefinitions"])) == (20, 40)
