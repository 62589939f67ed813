"""Transform jobs whose objects lie in S3: moto's server, reached as AWS_ENDPOINT_URL_S3 says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.emulator_harness import Emulator, running
from tests.emulator.transform.transform_harness import job_request, make_model, run, write_images
from tests.servers import S3_KEYS, bucket_client, moto_server

BUCKET = "kennel-test"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="module")
def s3(endpoint: str) -> Iterator[Any]:
    with bucket_client(endpoint, BUCKET) as client:
        yield client


@pytest.fixture(scope="module")
def emulator(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("s3")
    with running(write_images(folder / "home"), variables={**S3_KEYS, "AWS_ENDPOINT_URL_S3": endpoint}) as server:
        make_model(server, folder / "model")
        yield server


def put(s3: Any, **objects: str) -> None:
    for name, text in objects.items():
        s3.put_object(Bucket=BUCKET, Key=name.replace("__", "/").replace("_", "."), Body=text.encode())


def answers(s3: Any, prefix: str) -> dict[str, list[str]]:
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    bodies = {one["Key"]: s3.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read() for one in found}
    return {key: [json.loads(line)["line"] for line in body.splitlines()] for key, body in bodies.items()}


def test_a_prefix_of_s3_is_transformed_into_another(emulator: Emulator, s3: Any, tmp_path: Path):
    put(s3, in__a_txt="one\ntwo\n", in__deep__b_txt="three", in__bad_txt="fail", other__c_txt="never")
    request = job_request(
        "s3",
        tmp_path,
        source={"S3Uri": f"s3://{BUCKET}/in/"},
        data={"SplitType": "Line"},
        output={"S3OutputPath": f"s3://{BUCKET}/out", "AssembleWith": "Line"},
    )
    found = run(emulator, request)
    assert found["FailureReason"].startswith("AlgorithmError: 'bad.txt': the container answered 400"), found
    assert answers(s3, "out/") == {"out/a.txt.out": ["one", "two"], "out/deep/b.txt.out": ["three"]}


def test_a_manifest_of_s3_names_objects_of_s3(emulator: Emulator, s3: Any, tmp_path: Path):
    put(s3, some__a_txt="one", some__b_txt="two", list_json=json.dumps([{"prefix": f"s3://{BUCKET}/some/"}, "b.txt"]))
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/list.json"}
    request = job_request("s3-list", tmp_path, source=source, output={"S3OutputPath": f"s3://{BUCKET}/listed/"})
    assert run(emulator, request)["TransformJobStatus"] == "Completed"
    assert answers(s3, "listed/") == {"listed/b.txt.out": ["two"]}


def test_a_bucket_that_cannot_be_read_is_the_reason(emulator: Emulator, tmp_path: Path):
    found = run(emulator, job_request("s3-none", tmp_path, source={"S3Uri": "s3://nobodys-bucket/in/"}))
    assert found["FailureReason"].startswith("ClientError: 's3://nobodys-bucket/in/' cannot be listed: ")
