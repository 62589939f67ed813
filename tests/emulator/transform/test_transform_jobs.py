"""Batch transform jobs through the API, over plain processes."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kennel.contract.recordio import record
from tests.emulator.emulator_harness import Emulator, wait_for
from tests.emulator.transform.transform_harness import (
    job_request,
    log,
    make_model,
    outputs,
    run,
    said,
    wait,
    write,
)

LINES = {"data": {"SplitType": "Line"}, "output": {"AssembleWith": "Line", "Accept": "application/jsonlines"}}


def refusal(emulator: Emulator, request: dict[str, Any]) -> str:
    with pytest.raises(ClientError) as caught:
        emulator.client("sagemaker").create_transform_job(**request)
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException"
    return str(error["Message"])


def test_every_object_below_the_prefix_has_its_output_below_the_output_path(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="one", deep__er__b_txt="two", c_txt=b"\xff\n\x00")
    request = job_request("prefix", tmp_path, output={"Accept": "application/json"}, Environment={"MY_WORD": "job"})
    client = emulator.client("sagemaker")
    answer = client.create_transform_job(**request, Tags=[{"Key": "a", "Value": "b"}])
    assert answer["TransformJobArn"].endswith(":transform-job/prefix")
    waiter = client.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName="prefix", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    found = client.describe_transform_job(TransformJobName="prefix")
    assert found["TransformJobStatus"] == "Completed", found
    assert found["CreationTime"] <= found["TransformStartTime"] <= found["TransformEndTime"]
    assert outputs(tmp_path) == {"a.txt.out": ["one"], "deep/er/b.txt.out": ["two"], "c.txt.out": ["\xff", "\x00"]}
    [start] = said(emulator, "prefix", "starts")
    assert start["arguments"] == ["serve"]
    assert start["model"] == ["weights.txt"]
    own = {name: value for name, value in start["environ"].items() if name.startswith(("MY_", "SAGEMAKER_B"))}
    assert own.pop("SAGEMAKER_BASE_DIR")
    assert own.pop("SAGEMAKER_BIND_TO_PORT")
    assert own == {"MY_WORD": "job", "MY_OTHER": "model", "SAGEMAKER_BATCH": "true"}
    requests = said(emulator, "prefix", "request")
    assert {(one["type"], one["accept"]) for one in requests} == {("text/plain", "application/json")}
    settled = "[sagemaker logs]: MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"
    assert log(emulator, "prefix") == [settled]
    assert not (emulator.home / "transforms/prefix").exists()
    assert client.list_tags(ResourceArn=answer["TransformJobArn"])["Tags"] == [{"Key": "a", "Value": "b"}]


def test_lines_are_sent_as_many_at_once_as_there_is_room_for(emulator: Emulator, tmp_path: Path):
    lines = [f"{number} " + "x" * 200_000 for number in range(12)]
    write(tmp_path, a_jsonl="\n".join(lines) + "\n", b_jsonl="short\nlines\n", c_jsonl="")
    found = run(emulator, job_request("multi", tmp_path, **LINES, BatchStrategy="MultiRecord", MaxPayloadInMB=1))
    assert found["TransformJobStatus"] == "Completed", found
    assert outputs(tmp_path) == {"a.jsonl.out": lines, "b.jsonl.out": ["short", "lines"], "c.jsonl.out": []}
    sizes = [one["bytes"] for one in said(emulator, "multi", "request")]
    assert len(sizes) == 4
    assert max(sizes) <= 1 << 20
    environ = said(emulator, "multi", "starts")[0]["environ"]
    assert environ["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "1"
    assert environ["SAGEMAKER_BATCH_STRATEGY"] == "MULTI_RECORD"
    assert "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS" not in environ


def test_single_records_run_at_once_and_come_back_in_order(emulator: Emulator, tmp_path: Path):
    lines = [f"sleep {0.3 if number % 4 == 0 else 0.05} {number}" for number in range(16)]
    write(tmp_path, a_jsonl="\n".join(lines))
    options = {"BatchStrategy": "SingleRecord", "MaxConcurrentTransforms": 4}
    found = run(emulator, job_request("single", tmp_path, **LINES, **options))
    assert found["TransformJobStatus"] == "Completed", found
    assert outputs(tmp_path) == {"a.jsonl.out": lines}
    requests = said(emulator, "single", "request")
    assert len(requests) == 16
    assert max(one["most"] for one in requests) == 4


def test_the_container_decides_what_the_request_does_not_say(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_jsonl="\n".join(f"sleep 0.2 {number}" for number in range(6)))
    told = {"MaxConcurrentTransforms": 3, "MaxPayloadInMB": 50, "BatchStrategy": "SINGLE_RECORD"}
    request = job_request("told", tmp_path, **LINES, Environment={"TELL": json.dumps(told)})
    assert run(emulator, request)["TransformJobStatus"] == "Completed"
    settled = "MaxConcurrentTransforms=2, MaxPayloadInMB=50, BatchStrategy=SINGLE_RECORD"
    assert log(emulator, "told") == [f"[sagemaker logs]: {settled}"]  # 3 times 50 MB would be too much at once
    assert len(said(emulator, "told", "request")) == 6


def test_recordio_and_gzip_are_unpacked(emulator: Emulator, tmp_path: Path):
    packed = gzip.compress(record(b"first") + record(b"second"))
    write(tmp_path, a_rec_gz=packed)
    options = {"data": {"SplitType": "RecordIO", "CompressionType": "Gzip"}, "output": {"AssembleWith": "Line"}}
    found = run(emulator, job_request("recordio", tmp_path, **options, BatchStrategy="SingleRecord"))
    assert found["TransformJobStatus"] == "Completed", found
    assert outputs(tmp_path) == {"a.rec.gz.out": ["first", "second"]}


def test_a_manifest_names_the_objects(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="one", b_txt="two", deep__c_txt="three")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps([{"prefix": (tmp_path / "input").as_uri() + "/"}, "a.txt", "deep/c.txt"]))
    source = {"S3DataType": "ManifestFile", "S3Uri": manifest.as_uri()}
    assert run(emulator, job_request("manifest", tmp_path, source=source))["TransformJobStatus"] == "Completed"
    assert outputs(tmp_path) == {"a.txt.out": ["one"], "deep/c.txt.out": ["three"]}


def test_instances_share_the_objects(emulator: Emulator, tmp_path: Path):
    write(tmp_path, **{f"n{number}_txt": str(number) for number in range(6)})
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
    found = run(emulator, job_request("two", tmp_path, TransformResources=resources))
    assert found["TransformJobStatus"] == "Completed", found
    assert len(outputs(tmp_path)) == 6
    streams = emulator.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix="two/"
    )["logStreams"]
    assert len(streams) == 4  # of each instance the container's and the data log
    assert len(said(emulator, "two", "request")) == 6


def test_an_object_that_fails_costs_no_other_and_the_reason_names_it(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_jsonl="good\nfail 2\nmore", b_jsonl="busy\nfine", c_jsonl="x" * (1 << 20) + "yy")
    found = run(emulator, job_request("partly", tmp_path, **LINES, MaxPayloadInMB=1))
    assert found["TransformJobStatus"] == "Failed"
    reason = found["FailureReason"]
    assert reason.startswith("AlgorithmError: 'a.jsonl': the container answered 400: ")
    assert "I do not like line fail 2" in reason
    assert reason.endswith("2 of 3 objects failed; the outputs of the others are written.")
    assert outputs(tmp_path) == {"b.jsonl.out": ["busy", "fine"]}  # after a retry


def test_a_line_that_is_too_long_is_said_in_whole_sentences(emulator: Emulator, tmp_path: Path) -> None:
    write(tmp_path, a_jsonl="x" * (1 << 20) + "yy")
    found = run(emulator, job_request("long", tmp_path, **LINES, MaxPayloadInMB=1))
    assert "or shorten the line. 1 of 1 objects failed" in found["FailureReason"]
    told = "\n".join(log(emulator, "partly"))
    assert "An invocation failed: the container answered 503: busy" in told
    assert "'c.jsonl': ClientError: line 1 has more than 1048576 bytes" in told
    assert len([one for one in said(emulator, "partly", "request") if one["bytes"] == 16]) == 1  # 400 is final


def test_a_slow_answer_is_given_up_after_the_timeout_and_the_retries(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="sleep 30")
    patience = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 1}
    found = run(emulator, job_request("slow", tmp_path, ModelClientConfig=patience))
    assert "'a.txt': the container did not answer within 1 s (InvocationsTimeoutInSeconds)" in found["FailureReason"]
    assert len(said(emulator, "slow", "request")) == 2


def test_a_container_that_ends_fails_the_job_with_the_end_of_it(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="fine", b_txt="exit", c_txt="fine")
    found = run(emulator, job_request("ends", tmp_path))
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError: 'b.txt': the container gave no answer: ")
    assert "exit code 7" in found["FailureReason"]
    assert outputs(tmp_path) == {"a.txt.out": ["fine"]}


def test_a_container_that_does_not_serve_is_the_reason(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="one")
    make_model(emulator, tmp_path / "model", "unknown", Image="nobody/knows:1")
    reason = run(emulator, job_request("unknown", tmp_path, "unknown"))["FailureReason"]
    assert reason.startswith("AlgorithmError: the model's container does not serve: ")
    assert "nobody/knows" in reason
    make_model(emulator, tmp_path / "model", "crashes", Environment={"SAGEMAKER_BATCH": "no", "MY_EXIT": "3"})
    reason = run(emulator, job_request("crashes", tmp_path, "crashes"))["FailureReason"]
    assert "exit code 3" in reason
    assert "I cannot start" in reason
    for told, words in (("[]", "JSON or 404 is meant"), ('{"MaxPayloadInMB": "six"}', "MaxPayloadInMB='six'")):
        name = f"tells-{len(told)}"
        found = run(emulator, job_request(name, tmp_path, Environment={"TELL": told}))
        assert words in found["FailureReason"]
    assert outputs(tmp_path) == {}
    assert not list((emulator.home / "runs").iterdir())


def test_a_job_can_be_stopped_while_its_container_starts(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="one")
    client = emulator.client("sagemaker")
    client.create_transform_job(**job_request("early", tmp_path, Environment={"MY_START_S": "60"}))
    wait_for(lambda: list((emulator.home / "runs").iterdir()))
    client.stop_transform_job(TransformJobName="early")
    found = wait(emulator, "early", 20)
    assert found["TransformJobStatus"] == "Stopped"
    assert "TransformStartTime" not in found
    assert outputs(tmp_path) == {}


def test_an_empty_prefix_and_a_place_that_is_not_there_fail_the_job(emulator: Emulator, tmp_path: Path):
    (tmp_path / "input").mkdir()
    assert "there is nothing under" in run(emulator, job_request("empty", tmp_path))["FailureReason"]
    found = run(emulator, job_request("nowhere", tmp_path / "nowhere"))
    assert found["FailureReason"].startswith("ClientError: ")
    assert "neither a file nor a folder" in found["FailureReason"]


def test_a_stopped_job_keeps_what_is_written_and_drops_what_is_under_way(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="fast", b_txt="sleep 60", c_txt="never")
    client = emulator.client("sagemaker")
    client.create_transform_job(**job_request("stopped", tmp_path))
    wait_for((tmp_path / "output/a.txt.out").exists)
    begin = time.monotonic()
    client.stop_transform_job(TransformJobName="stopped")
    found = wait(emulator, "stopped")
    assert time.monotonic() - begin < 10
    assert found["TransformJobStatus"] == "Stopped"
    assert outputs(tmp_path) == {"a.txt.out": ["fast"]}
    with pytest.raises(ClientError, match="transform job is in status Stopped"):
        client.stop_transform_job(TransformJobName="stopped")
    for call in (client.describe_transform_job, client.stop_transform_job):
        with pytest.raises(ClientError) as caught:
            call(TransformJobName="nobody")
        assert caught.value.response["Error"]["Code"] == "ResourceNotFound"


def test_what_cannot_be_done_is_refused_with_what_to_do(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="one")
    many = {"MaxConcurrentTransforms": 20, "MaxPayloadInMB": 6}
    assert "must not exceed 100 MB" in refusal(emulator, job_request("no", tmp_path, **many))
    assert "MaxPayloadInMB 0" in refusal(emulator, job_request("no", tmp_path, MaxPayloadInMB=0))
    assert "SplitType TFRecord" in refusal(emulator, job_request("no", tmp_path, data={"SplitType": "TFRecord"}))
    augmented = {"S3DataType": "AugmentedManifestFile"}
    assert "S3Prefix or ManifestFile" in refusal(emulator, job_request("no", tmp_path, source=augmented))
    joined = job_request("no", tmp_path, DataProcessing={"JoinSource": "Input"})
    assert "needs the same TransformInput.ContentType" in refusal(emulator, joined)
    assert "Could not find model" in refusal(emulator, job_request("no", tmp_path, model="nobody"))
    retries = {"InvocationsMaxRetries": 4}
    assert "less than or equal to 3" in refusal(emulator, job_request("no", tmp_path, ModelClientConfig=retries))
    defaults = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    request = job_request("defaults", tmp_path, DataProcessing=defaults)
    assert run(emulator, request)["TransformJobStatus"] == "Completed"
    with pytest.raises(ClientError) as caught:
        emulator.client("sagemaker").create_transform_job(**request)
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"


def test_the_aws_cli_creates_waits_and_lists(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_txt="one")
    request = tmp_path / "request.json"
    request.write_text(json.dumps(job_request("from-cli", tmp_path)))
    emulator.aws("sagemaker", "create-transform-job", "--cli-input-json", request.as_uri())
    wait(emulator, "from-cli")  # the waiter's own delay is 60 s
    emulator.aws("sagemaker", "wait", "transform-job-completed-or-stopped", "--transform-job-name", "from-cli")
    listed = emulator.aws("sagemaker", "list-transform-jobs", "--name-contains", "from-cli")
    [job] = listed["TransformJobSummaries"]
    assert (job["TransformJobName"], job["TransformJobStatus"]) == ("from-cli", "Completed")
    assert emulator.aws("sagemaker", "list-transform-jobs", "--status-equals", "InProgress") == {
        "TransformJobSummaries": []
    }
    assert outputs(tmp_path) == {"a.txt.out": ["one"]}
