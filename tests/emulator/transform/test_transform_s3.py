"""Transform jobs whose objects lie in S3: moto's server, reached as AWS_ENDPOINT_URL_S3 says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.emulator_harness import Emulator, running, wait_for
from tests.emulator.s3 import BUCKET, Bucket, bucket
from tests.emulator.transform.transform_harness import (
    job_request,
    make_model,
    run,
    said,
    wait,
    write,
    write_images,
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with bucket(tmp_path_factory.mktemp("moto")) as made:
        yield made


@pytest.fixture(scope="module")
def emulator(s3: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("s3")
    with running(write_images(folder / "home"), variables=s3.variables) as server:
        make_model(server, folder / "model")
        yield server


def answers(s3: Bucket, prefix: str) -> dict[str, list[str]]:
    return {key: [json.loads(line)["line"] for line in s3.get(key).splitlines()] for key in s3.keys(prefix)}


def test_a_prefix_of_s3_is_transformed_into_another(emulator: Emulator, s3: Bucket, tmp_path: Path):
    s3.put(**{"in__a.txt": "one\ntwo\n", "in__deep__b.txt": "three", "in__bad.txt": "fail", "other__c.txt": "never"})
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


def test_a_manifest_of_s3_names_objects_of_s3(emulator: Emulator, s3: Bucket, tmp_path: Path):
    manifest = json.dumps([{"prefix": f"s3://{BUCKET}/some/"}, "b.txt"])
    s3.put(**{"some__a.txt": "one", "some__b.txt": "two", "list.json": manifest})
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/list.json"}
    request = job_request("s3-list", tmp_path, source=source, output={"S3OutputPath": f"s3://{BUCKET}/listed/"})
    assert run(emulator, request)["TransformJobStatus"] == "Completed"
    assert answers(s3, "listed/") == {"listed/b.txt.out": ["two"]}


def test_a_stop_while_an_output_is_on_its_way_leaves_it_whole_or_not_at_all(
    emulator: Emulator, s3: Bucket, tmp_path: Path
):
    write(tmp_path, a_txt="one", b_txt="two")
    client = emulator.client("sagemaker")
    with s3.halted():
        request = job_request("s3-stop", tmp_path, output={"S3OutputPath": f"s3://{BUCKET}/stopped/"})
        client.create_transform_job(**request)
        wait_for(lambda: said(emulator, "s3-stop", "request"))
        client.stop_transform_job(TransformJobName="s3-stop")
        assert client.describe_transform_job(TransformJobName="s3-stop")["TransformJobStatus"] == "Stopping"
    assert wait(emulator, "s3-stop")["TransformJobStatus"] == "Stopped"
    wanted = {"stopped/a.txt.out": ["one"], "stopped/b.txt.out": ["two"]}
    assert answers(s3, "stopped/").items() <= wanted.items()


def test_a_bucket_that_cannot_be_read_is_the_reason(emulator: Emulator, tmp_path: Path):
    found = run(emulator, job_request("s3-none", tmp_path, source={"S3Uri": "s3://nobodys-bucket/in/"}))
    assert found["FailureReason"].startswith("ClientError: 's3://nobodys-bucket/in/' cannot be listed: ")
