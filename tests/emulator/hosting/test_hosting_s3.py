"""Endpoints whose models, requests and captures lie in S3: moto's server, reached as AWS_ENDPOINT_URL_S3 says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.emulator_harness import running, wait_for
from tests.emulator.hosting.hosting_harness import IMAGE, ROLE, Hosted, make_home, pack, refused
from tests.emulator.s3 import BUCKET, Bucket, bucket


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with bucket(tmp_path_factory.mktemp("moto")) as made:
        yield made


@pytest.fixture(scope="module")
def hosted(s3: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("s3")
    home = make_home(folder / "home")
    with running(home.path, variables=s3.variables) as emulator:
        made = Hosted(emulator, folder)
        yield made
        made.delete_all()


def upload(s3: Bucket, folder: Path, key: str, answer: str) -> str:
    pack(folder / "model.tar.gz", answer)
    s3.client.upload_file(str(folder / "model.tar.gz"), BUCKET, key)
    return f"s3://{BUCKET}/{key}"


def objects(s3: Bucket, prefix: str) -> dict[str, bytes]:
    return {key: s3.get(key) for key in s3.keys(prefix)}


def create(hosted: Hosted, name: str, container: dict[str, Any], **members: Any) -> dict[str, Any]:
    model = {"Image": IMAGE, **container}
    hosted.sagemaker.create_model(ModelName=name, PrimaryContainer=model, ExecutionRoleArn=ROLE)
    hosted.config(name, name, **members)
    return hosted.create(name)


def test_a_model_of_s3_is_served_and_its_requests_are_captured(hosted: Hosted, s3: Bucket, tmp_path: Path) -> None:
    url = upload(s3, tmp_path, "models/cat/model.tar.gz", "meow")
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{BUCKET}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    }
    create(hosted, "cat", {"ModelDataUrl": url}, DataCaptureConfig=capture)
    assert hosted.say("cat", InferenceId="seven")["answer"] == "meow"
    [(key, body)] = wait_for(lambda: objects(s3, "captured/")).items()
    assert key.startswith("captured/cat/cat/20")
    assert key.endswith(".jsonl")
    captured = json.loads(body)
    assert captured["eventMetadata"]["inferenceId"] == "seven"
    assert captured["captureData"]["endpointInput"]["data"] == "cGhvdG8="


def test_plain_files_below_a_prefix_are_a_model(hosted: Hosted, s3: Bucket) -> None:
    s3.put(**{"plain__answer.txt": "woof"})
    source = {"S3Uri": f"s3://{BUCKET}/plain/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    create(hosted, "dog", {"ModelDataSource": {"S3DataSource": source}})
    assert hosted.say("dog")["answer"] == "woof"


def test_a_model_that_is_not_in_s3_fails_the_endpoint(hosted: Hosted) -> None:
    found = create(hosted, "none", {"ModelDataUrl": f"s3://{BUCKET}/nowhere/model.tar.gz"})
    assert found["EndpointStatus"] == "Failed"
    assert f"'s3://{BUCKET}/nowhere/model.tar.gz' cannot be read" in found["FailureReason"]


def test_models_below_a_prefix_of_s3_are_loaded_by_name(hosted: Hosted, s3: Bucket, tmp_path: Path) -> None:
    upload(s3, tmp_path, "many/cat.tar.gz", "meow")
    found = create(hosted, "many", {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/many/"})
    assert found["EndpointStatus"] == "InService", found
    assert hosted.say("many", TargetModel="cat.tar.gz")["answer"] == "meow"
    with refused("ValidationError", "Failed to download model data.*wild/dog.tar.gz' cannot be read"):
        hosted.say("many", TargetModel="wild/dog.tar.gz")
    upload(s3, tmp_path, "many/wild/dog.tar.gz", "woof")
    assert hosted.say("many", TargetModel="wild/dog.tar.gz")["answer"] == "woof"


def test_asynchronous_requests_come_from_s3_and_go_there(hosted: Hosted, s3: Bucket, tmp_path: Path) -> None:
    url = upload(s3, tmp_path, "models/later/model.tar.gz", "zzz")
    output = {"S3OutputPath": f"s3://{BUCKET}/answers/", "S3FailurePath": f"s3://{BUCKET}/failures"}
    create(hosted, "later", {"ModelDataUrl": url}, AsyncInferenceConfig={"OutputConfig": output})
    s3.put(**{"photos__one.jpg": "12345678"})
    sent = hosted.emulator.aws(
        "sagemaker-runtime", "invoke-endpoint-async", "--endpoint-name", "later", "--content-type", "image/jpeg",
        "--input-location", f"s3://{BUCKET}/photos/one.jpg", "--inference-id", "seven",
    )  # fmt: skip
    assert sent["InferenceId"] == "seven"
    [(key, body)] = wait_for(lambda: objects(s3, "answers/")).items()
    assert sent["OutputLocation"] == f"s3://{BUCKET}/{key}"
    assert (json.loads(body)["answer"], json.loads(body)["body"]) == ("zzz", 8)
    sent = hosted.runtime.invoke_endpoint_async(EndpointName="later", InputLocation=f"s3://{BUCKET}/photos/none.jpg")
    [(key, body)] = wait_for(lambda: objects(s3, "failures/")).items()
    assert sent["FailureLocation"] == f"s3://{BUCKET}/{key}"
    assert f"'s3://{BUCKET}/photos/none.jpg' cannot be read".encode() in body


def test_an_answer_waits_until_s3_is_there_again(hosted: Hosted, s3: Bucket, tmp_path: Path) -> None:
    url = upload(s3, tmp_path, "models/patient/model.tar.gz", "zzz")
    output = {"S3OutputPath": f"s3://{BUCKET}/patient/"}
    create(hosted, "patient", {"ModelDataUrl": url}, AsyncInferenceConfig={"OutputConfig": output})
    with s3.halted():
        sent = hosted.runtime.invoke_endpoint_async(EndpointName="patient", Body=b"1234")
        kept = hosted.emulator.home / "async-requests/patient"
        wait_for(lambda: list(kept.glob("*.answer")))
    wait_for(lambda: not list(kept.iterdir()))
    [(key, body)] = objects(s3, "patient/").items()
    assert sent["OutputLocation"] == f"s3://{BUCKET}/{key}"
    assert json.loads(body)["answer"] == "zzz"
