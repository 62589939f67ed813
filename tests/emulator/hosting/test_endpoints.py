"""Endpoints from their creation to their deletion, as boto3 and the aws CLI see them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.emulator_harness import running, wait_for
from tests.emulator.hosting.hosting_harness import IMAGE, Hosted, both_runners, make_home, pack, refused


@both_runners
def test_an_endpoint_is_created_invoked_and_deleted(hosted: Hosted) -> None:
    hosted.model("cat", "meow")
    hosted.config("cat", "cat")
    hosted.sagemaker.create_endpoint(EndpointName="cat", EndpointConfigName="cat")
    hosted.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="cat", WaiterConfig={"Delay": 1})
    found = hosted.describe("cat")
    [variant] = found["ProductionVariants"]
    assert found["EndpointArn"] == "arn:aws:sagemaker:eu-central-1:000000000000:endpoint/cat"
    assert variant["DeployedImages"][0]["SpecifiedImage"] == IMAGE
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1, 1)
    answer = hosted.invoke("cat", Accept="application/json", CustomAttributes='{"trace": "7"}')
    said = json.loads(answer["Body"].read())
    assert (answer["InvokedProductionVariant"], answer["CustomAttributes"]) == ("cat", "from the container")
    assert answer["ContentType"] == "application/json"
    assert (said["answer"], said["path"], said["body"]) == ("meow", "/invocations", 5)
    assert said["headers"]["content-type"] == "image/jpeg"
    assert said["headers"]["accept"] == "application/json"
    assert said["headers"]["x-amzn-sagemaker-custom-attributes"] == '{"trace": "7"}'
    logs = hosted.emulator.client("logs")
    [stream] = logs.describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/cat")["logStreams"]
    assert stream["logStreamName"].startswith("cat/i-")
    hosted.delete("cat")
    with refused("ValidationException", "Could not find endpoint"):
        hosted.describe("cat")
    with refused("ValidationError", "Endpoint cat of account 000000000000 not found"):
        hosted.invoke("cat")
    assert not (hosted.emulator.home / "endpoints/cat").exists()


def test_the_aws_cli_invokes(hosted: Hosted, tmp_path: Path) -> None:
    hosted.deploy("cat")
    answer, body = tmp_path / "answer", tmp_path / "photo.jpg"
    body.write_bytes(b"12345678")
    told = hosted.emulator.aws(
        "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "cat", "--content-type", "image/jpeg",
        "--body", f"fileb://{body}", str(answer),
    )  # fmt: skip
    assert told["InvokedProductionVariant"] == "cat"
    assert json.loads(answer.read_text())["body"] == 8
    assert hosted.emulator.aws("sagemaker", "list-endpoints")["Endpoints"][0]["EndpointStatus"] == "InService"


def test_requests_are_shared_by_weight_and_can_ask_for_a_variant(hosted: Hosted) -> None:
    hosted.model("cat", "meow")
    hosted.model("dog", "woof")
    hosted.config("pets", "cat", "dog", count=2)
    hosted.create("pets")
    assert hosted.say("pets", TargetVariant="dog")["answer"] == "woof"
    with refused("ValidationError", "Variant bird not found"):
        hosted.invoke("pets", TargetVariant="bird")
    assert len({hosted.say("pets", TargetVariant="cat")["pid"] for _ in range(4)}) == 2, "the instances take turns"
    assert {hosted.say("pets")["answer"] for _ in range(40)} == {"meow", "woof"}
    weights = [{"VariantName": "dog", "DesiredWeight": 0}, {"VariantName": "cat", "DesiredInstanceCount": 1}]
    hosted.sagemaker.update_endpoint_weights_and_capacities(EndpointName="pets", DesiredWeightsAndCapacities=weights)
    found = hosted.settled("pets")
    assert [v["DesiredInstanceCount"] for v in found["ProductionVariants"]] == [1, 2]
    assert {hosted.say("pets")["answer"] for _ in range(20)} == {"meow"}
    assert len({hosted.say("pets", TargetVariant="cat")["pid"] for _ in range(4)}) == 1


def test_what_the_container_refuses_or_breaks_is_a_model_error(hosted: Hosted) -> None:
    hosted.deploy("cat")
    with pytest.raises(ClientError) as caught:
        hosted.invoke("cat", {"status": 415, "message": "no photo", "print": "I saw nonsense"})
    answer = caught.value.response
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == 415
    assert "no photo" in answer["OriginalMessage"]
    assert answer["LogStreamArn"].startswith("arn:aws:logs:eu-central-1:000000000000:log-group:/aws/sagemaker/End")
    assert "Received client error (415) from primary" in answer["Error"]["Message"]
    wait_for(lambda: "I saw nonsense" in (hosted.emulator.home / "logs").rglob("*i-1-0").__next__().read_text())
    with refused("ModelError", r"server error \(503\)"):
        hosted.invoke("cat", {"status": 503})
    with refused("ModelError", "it closed the connection before it had answered"):
        hosted.invoke("cat", {"hang_up": True})
    with refused("ModelError", "larger than"):
        hosted.invoke("cat", {"size": 7_000_000})
    with refused("ValidationError", "leave TargetModel out"):
        hosted.invoke("cat", TargetModel="a.tar.gz")
    assert hosted.say("cat")["answer"] == "meow"
    assert hosted.say("cat", Body=b"x" * 6_000_000)["body"] == 6_000_000


@pytest.mark.slow
def test_an_answer_that_takes_more_than_a_minute_is_a_model_error(hosted: Hosted) -> None:
    hosted.deploy("cat")
    start = time.monotonic()
    with refused("ModelError", "Your invocation timed out"):
        hosted.emulator.client("sagemaker-runtime").invoke_endpoint(
            EndpointName="cat", Body=b"", CustomAttributes='{"sleep_s": 65}'
        )
    assert 59 < time.monotonic() - start < 70


@both_runners
def test_a_container_that_dies_is_started_again(hosted: Hosted) -> None:
    hosted.deploy("cat")
    with refused("ModelError", "no whole answer"):
        hosted.invoke("cat", {"exit": 9})

    def back() -> bool:
        with contextlib.suppress(ClientError):
            return hosted.say("cat")["answer"] == "meow"
        return False

    wait_for(back)
    assert hosted.settled("cat")["EndpointStatus"] == "InService"


@pytest.mark.slow
def test_a_container_whose_pings_fail_is_started_again(hosted: Hosted) -> None:
    hosted.deploy("cat")
    pid = hosted.say("cat")["pid"]
    hosted.invoke("cat", {"pings": False})

    def other() -> bool:
        with contextlib.suppress(ClientError):
            return bool(hosted.say("cat")["pid"] != pid)
        return False

    wait_for(other)


def test_an_endpoint_whose_container_does_not_start_is_failed_with_its_log(hosted: Hosted) -> None:
    hosted.model("bad", START_EXIT="3")
    hosted.config("bad", "bad")
    found = hosted.create("bad")
    assert found["EndpointStatus"] == "Failed"
    assert "exit code 3" in found["FailureReason"]
    assert "there is no such class" in found["FailureReason"]
    with refused("ValidationException", "Cannot update failed endpoint"):
        hosted.sagemaker.update_endpoint(EndpointName="bad", EndpointConfigName="bad")


class Load:
    """Requests one after the other from some threads; what they gave."""

    def __init__(self, hosted: Hosted, name: str, threads: int = 4) -> None:
        self.answers: Counter[str] = Counter()
        self.errors: list[str] = []
        self._over = False
        self._threads = [threading.Thread(target=self._run, args=(hosted, name)) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, hosted: Hosted, name: str) -> None:
        while not self._over:
            try:
                self.answers[hosted.say(name)["answer"]] += 1
            except ClientError as error:
                self.errors.append(str(error))

    def end(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()


def test_an_update_under_load_drops_no_request(hosted: Hosted) -> None:
    hosted.deploy("cat")
    hosted.model("dog", "woof")
    hosted.config("dog", "dog")
    load = Load(hosted, "cat")
    wait_for(lambda: load.answers["meow"] > 20)
    hosted.sagemaker.update_endpoint(EndpointName="cat", EndpointConfigName="dog")
    assert hosted.describe("cat")["EndpointStatus"] == "Updating"
    assert hosted.describe("cat")["PendingDeploymentSummary"]["EndpointConfigName"] == "dog"
    with refused("ValidationException", "Cannot update in-progress endpoint"):
        hosted.sagemaker.update_endpoint(EndpointName="cat", EndpointConfigName="dog")
    found = hosted.settled("cat")
    wait_for(lambda: load.answers["woof"] > 20)
    time.sleep(1)
    load.end()
    assert load.errors == []
    assert found["EndpointConfigName"] == "dog"
    assert [variant["VariantName"] for variant in found["ProductionVariants"]] == ["dog"]


def test_an_update_that_fails_is_rolled_back(hosted: Hosted) -> None:
    hosted.deploy("cat")
    hosted.model("bad", START_EXIT="3")
    hosted.config("bad", "bad")
    hosted.sagemaker.update_endpoint(EndpointName="cat", EndpointConfigName="bad")
    found = hosted.settled("cat")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "cat")
    assert "there is no such class" in found["FailureReason"]
    assert hosted.say("cat")["answer"] == "meow"


def test_the_endpoint_does_not_need_its_model_any_more(hosted: Hosted) -> None:
    hosted.deploy("cat")
    hosted.sagemaker.delete_model(ModelName="cat")
    hosted.sagemaker.delete_endpoint_config(EndpointConfigName="cat")
    os.kill(hosted.say("cat")["pid"], signal.SIGKILL)
    time.sleep(1)
    wait_for(lambda: hosted.settled("cat")["EndpointStatus"] == "InService")
    assert hosted.say("cat")["answer"] == "meow"


@both_runners
def test_after_a_kill_the_same_containers_answer(
    runner_name: str, tmp_path: Path, echo_image_if_docker: None  # noqa: ARG001
) -> None:  # fmt: skip
    home = make_home(tmp_path / "home").path
    with running(home, "--runner", runner_name) as emulator:
        hosted = Hosted(emulator, tmp_path)
        hosted.deploy("cat", count=2)
        hosted.model("slow", "zzz", START_SLEEP_S="3")
        hosted.config("slow", "slow")
        hosted.sagemaker.create_endpoint(EndpointName="slow", EndpointConfigName="slow")
        before = {(said := hosted.say("cat"))["who"] for _ in range(4)}
        assert said["answer"] == "meow"
        emulator.stop(signal.SIGKILL)
    if runner_name == "process":
        os.kill(int(min(before).split()[-1]), signal.SIGKILL)  # lost while nobody looked
    with running(home, "--runner", runner_name) as emulator:
        hosted = Hosted(emulator, tmp_path)
        assert hosted.say("cat")["answer"] == "meow", "at once"
        hosted.settled("cat")
        after = {hosted.say("cat")["who"] for _ in range(8)}
        assert len(after) == 2
        assert len(before & after) == (1 if runner_name == "process" else 2)
        assert hosted.settled("slow")["EndpointStatus"] == "InService"
        assert hosted.say("slow")["answer"] == "zzz"
        hosted.delete_all()


def test_a_clean_stop_leaves_the_containers_running(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        hosted.deploy("cat")
        pid = hosted.say("cat")["pid"]
        assert emulator.stop() == 0
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        assert hosted.say("cat")["pid"] == pid
        hosted.delete_all()


def test_invocations_are_captured(hosted: Hosted, tmp_path: Path) -> None:
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": (tmp_path / "captured").as_uri(),
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
    }
    found = hosted.deploy("cat", DataCaptureConfig=capture)
    assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"
    hosted.invoke("cat", Body=b"1,2\n", ContentType="text/csv", InferenceId="seven")
    hosted.invoke("cat", Body=b"\xff\xd8", ContentType="image/jpeg")

    def lines() -> list[dict[str, Any]]:
        files = sorted((tmp_path / "captured/cat/cat").rglob("*.jsonl"))
        assert all(len(file.relative_to(tmp_path / "captured/cat/cat").parts) == 5 for file in files)
        found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return found if len(found) == 2 else []

    first, second = sorted(wait_for(lines), key=lambda one: "inferenceId" not in one["eventMetadata"])
    assert first["captureData"]["endpointInput"] == {
        "observedContentType": "text/csv", "mode": "INPUT", "data": "1,2\n", "encoding": "CSV"
    }  # fmt: skip
    assert first["captureData"]["endpointOutput"]["encoding"] == "CSV"
    assert first["eventMetadata"]["inferenceId"] == "seven"
    assert second["captureData"]["endpointInput"]["encoding"] == "BASE64"
    assert second["captureData"]["endpointInput"]["data"] == "/9g="
    assert second["captureData"]["endpointOutput"]["encoding"] == "JSON"
    assert json.loads(second["captureData"]["endpointOutput"]["data"])["answer"] == "meow"


def test_a_model_whose_data_is_no_archive_fails_the_endpoint(hosted: Hosted, tmp_path: Path) -> None:
    url = pack(tmp_path / "broken.tar.gz", "x")
    (tmp_path / "broken.tar.gz").write_bytes(b"no archive")
    container = {"Image": IMAGE, "ModelDataUrl": url}
    hosted.sagemaker.create_model(ModelName="broken", PrimaryContainer=container, ExecutionRoleArn="arn:aws:iam::000000000000:role/kennel")  # fmt: skip # noqa: E501
    hosted.config("broken", "broken")
    assert "cannot be unpacked" in hosted.create("broken")["FailureReason"]
