"""Asynchronous endpoints: requests that wait, answers that appear, and nothing lost on the way."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.emulator.emulator_harness import running, wait_for
from tests.emulator.hosting.hosting_harness import Hosted, both_runners, make_home, refused


def path_of(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def asynchronous(folder: Path, concurrent: int = 2, **output: Any) -> dict[str, Any]:
    return {
        "AsyncInferenceConfig": {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": concurrent},
            "OutputConfig": {"S3OutputPath": (folder / "answers").as_uri(), **output},
        }
    }


def send(hosted: Hosted, name: str, orders: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A request with its payload in a file, or with `Body`."""
    photo = hosted.folder / "photo.jpg"
    if not photo.exists():
        photo.write_bytes(b"12345678")
    if "Body" not in members:
        members = {"InputLocation": photo.as_uri(), **members}
    if orders:
        members["CustomAttributes"] = json.dumps(orders)
    answer: dict[str, Any] = hosted.runtime.invoke_endpoint_async(EndpointName=name, **members)
    return answer


def answer_to(sent: dict[str, Any]) -> dict[str, Any]:
    place = path_of(sent["OutputLocation"])
    wait_for(place.exists)
    found: dict[str, Any] = json.loads(place.read_text())
    return found


def failure_of(sent: dict[str, Any]) -> str:
    place = path_of(sent["FailureLocation"])
    wait_for(place.exists)
    assert not path_of(sent["OutputLocation"]).exists()
    return place.read_text()


def waiting(hosted: Hosted, name: str) -> list[Path]:
    return sorted((hosted.emulator.home / "async-requests" / name).glob("*.json"))


@both_runners
def test_a_request_is_accepted_at_once_and_answered_in_its_place(hosted: Hosted, tmp_path: Path) -> None:
    found = hosted.deploy("later", **asynchronous(tmp_path))
    assert found["AsyncInferenceConfig"]["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 2}
    sent = send(
        hosted, "later", {"sleep_s": 1}, ContentType="image/jpeg", Accept="application/json", InferenceId="seven"
    )
    assert sent["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert sent["InferenceId"] == "seven"
    assert not path_of(sent["OutputLocation"]).exists(), "nobody has waited"
    said = answer_to(sent)
    assert (said["answer"], said["path"], said["body"]) == ("meow", "/invocations", 8)
    assert said["headers"]["content-type"] == "image/jpeg"
    assert said["headers"]["accept"] == "application/json"
    assert path_of(sent["OutputLocation"]).is_relative_to(tmp_path / "answers")
    wait_for(lambda: not waiting(hosted, "later"))


def test_small_payloads_may_come_along_and_places_may_have_names(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("inline", **asynchronous(tmp_path, S3FailurePath=(tmp_path / "failures").as_uri()))
    assert answer_to(send(shared, "inline", Body=b"123"))["body"] == 3
    sent = send(shared, "inline", Body=b"123", S3OutputPathExtension="today/cats", Filename="one.json")
    assert path_of(sent["OutputLocation"]) == tmp_path / "answers/today/cats/one.json"
    assert answer_to(sent)["body"] == 3
    sent = send(shared, "inline", {"status": 415, "message": "no photo"}, Body=b"x")
    assert path_of(sent["FailureLocation"]).parent == tmp_path / "failures"
    assert "Received client error (415) from primary" in (said := failure_of(sent))
    assert "no photo" in said
    with refused("ValidationError", "either InputLocation.*or the payload"):
        shared.runtime.invoke_endpoint_async(EndpointName="inline")
    with refused("ValidationError", "128001 bytes; 128000 are the limit"):
        send(shared, "inline", Body=b"x" * 128_001)
    with refused("ValidationError", "no path below a folder"):
        send(shared, "inline", Body=b"x", S3OutputPathExtension="../../elsewhere")
    with refused("ValidationError", "is no URI of data"):
        send(shared, "inline", InputLocation="https://bucket/photo.jpg")
    with refused("ValidationError", "takes InvokeEndpointAsync only"):
        shared.invoke("inline")


def test_answers_go_below_the_home_where_no_place_is_named(shared: Hosted, tmp_path: Path) -> None:
    config = asynchronous(tmp_path)
    config["AsyncInferenceConfig"]["OutputConfig"].pop("S3OutputPath")
    shared.deploy("homely", **config)
    sent = send(shared, "homely", Body=b"1234")
    assert answer_to(sent)["body"] == 4
    assert path_of(sent["OutputLocation"]).is_relative_to(shared.emulator.home / "async-output/homely")


def test_what_cannot_be_answered_leaves_a_failure_with_its_reason(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("fails", **asynchronous(tmp_path))
    nowhere = (tmp_path / "nowhere.jpg").as_uri()
    assert "cannot be read: No such file" in failure_of(send(shared, "fails", InputLocation=nowhere))
    assert "invocation timed out" in failure_of(send(shared, "fails", {"sleep_s": 5}, InvocationTimeoutSeconds=1))
    assert "no whole answer" in failure_of(send(shared, "fails", {"hang_up": True})), "after three tries"
    wait_for(lambda: not waiting(shared, "fails"))


def test_an_endpoint_that_is_not_asynchronous_says_so(shared: Hosted) -> None:
    shared.deploy("now")
    with refused("ValidationError", "Endpoint now is not asynchronous"):
        send(shared, "now", Body=b"1")
    with refused("ValidationError", "Endpoint nobody of account 000000000000 not found"):
        send(shared, "nobody", Body=b"1")


def test_no_instance_has_more_requests_than_the_configuration_allows(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("one", count=2, **asynchronous(tmp_path, concurrent=1))
    began = time.monotonic()
    sent = [send(shared, "one", {"sleep_s": 1}) for _ in range(4)]
    said = [answer_to(one) for one in sent]
    assert len({one["pid"] for one in said}) == 2
    assert time.monotonic() - began >= 2, "two and two, for each of the two takes one at a time"


def test_a_request_that_kills_its_container_is_not_tried_for_ever(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("deadly", **asynchronous(tmp_path, concurrent=1))
    deadly = send(shared, "deadly", {"exit": 9})
    after = send(shared, "deadly")
    assert "no whole answer" in failure_of(deadly)
    assert answer_to(after)["answer"] == "meow"


def test_requests_wait_while_there_is_no_instance_and_expire_when_they_said_so(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("none", **asynchronous(tmp_path))

    def scale(count: int) -> None:
        wanted = [{"VariantName": "none", "DesiredInstanceCount": count}]
        shared.sagemaker.update_endpoint_weights_and_capacities(EndpointName="none", DesiredWeightsAndCapacities=wanted)
        shared.settled("none")

    scale(0)
    sent = send(shared, "none", RequestTTLSeconds=60)
    time.sleep(0.5)
    [kept] = waiting(shared, "none")
    assert not path_of(sent["OutputLocation"]).exists()
    scale(1)
    assert answer_to(sent)["answer"] == "meow"
    wait_for(lambda: not kept.exists())


def test_deleting_the_endpoint_tells_those_who_wait(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("doomed", **asynchronous(tmp_path, concurrent=1))
    first = send(shared, "doomed", {"sleep_s": 1})
    second = send(shared, "doomed")
    wait_for(lambda: len(waiting(shared, "doomed")) == 2)
    time.sleep(0.3)  # the first is with the container
    shared.delete("doomed")
    assert failure_of(second) == "The endpoint was deleted before it had answered."
    assert answer_to(first)["answer"] == "meow"
    assert not (shared.emulator.home / "async-requests/doomed").exists()


def test_an_update_answers_what_waits_with_the_new_model(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("new", **asynchronous(tmp_path, concurrent=1))
    shared.model("newer", "woof")
    shared.config("newer", "newer", **asynchronous(tmp_path))
    sent = [send(shared, "new", {"sleep_s": 0.5}) for _ in range(8)]
    shared.sagemaker.update_endpoint(EndpointName="new", EndpointConfigName="newer")
    shared.settled("new")
    words = [answer_to(one)["answer"] for one in sent]
    assert set(words) == {"meow", "woof"}


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_asked_twice_by_kills(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        hosted.deploy("later", **asynchronous(tmp_path, concurrent=1))
        sent = [send(hosted, "later", {"sleep_s": 0.3, "print": f"request {n}"}) for n in range(10)]
    for _ in range(3):  # the first time it was SIGTERM
        with running(home) as emulator:
            time.sleep(0.7)
            emulator.stop(signal.SIGKILL)
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        assert [answer_to(one)["answer"] for one in sent] == ["meow"] * 10
        wait_for(lambda: not waiting(hosted, "later"))
        log = next((home / "logs").rglob("*i-1-0")).read_text()
        asked = [log.count(f'"request {n}"') for n in range(10)]
        assert min(asked) == 1, "each was asked"
        assert sum(asked) <= 10 + 4, "again only what was with the container when the emulator ended"
        hosted.delete_all()


def test_an_answer_that_was_not_put_in_its_place_is_put_there_and_not_asked_for_again(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    blocked = tmp_path / "answers"
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        hosted.deploy("later", **asynchronous(tmp_path))
        blocked.write_text("a file stands where the folder should be")
        sent = send(hosted, "later", {"print": "asked"})
        wait_for(lambda: list((home / "async-requests/later").glob("*.answer")))
        assert emulator.stop(signal.SIGKILL) == -signal.SIGKILL
    blocked.unlink()
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        assert answer_to(sent)["answer"] == "meow"
        assert next((home / "logs").rglob("*i-1-0")).read_text().count('"asked"') == 1
        hosted.delete_all()


def test_requests_of_an_endpoint_that_is_gone_are_told_so(tmp_path: Path) -> None:
    """Its deletion ended between the last step and the removal of its requests."""
    home = make_home(tmp_path / "home").path
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        hosted.deploy("later", **asynchronous(tmp_path, concurrent=1))
        send(hosted, "later", {"sleep_s": 4})
        sent = send(hosted, "later")
        emulator.stop(signal.SIGKILL)
    kept = home / "async-requests/later"
    aside = kept.rename(tmp_path / "aside")
    with running(home) as emulator:
        Hosted(emulator, tmp_path).delete_all()
    aside.rename(kept)
    with running(home):
        assert failure_of(sent) == "The endpoint was deleted before it had answered."
        assert not kept.exists()


def test_what_an_asynchronous_endpoint_does_not_do_is_told(shared: Hosted, tmp_path: Path) -> None:
    topic = "arn:aws:sns:eu-central-1:000000000000:answers"
    config = asynchronous(tmp_path, NotificationConfig={"SuccessTopic": topic}, KmsKeyId="key")
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": tmp_path.as_uri(),
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    shared.model("told", "meow")
    shared.config("told", "told", DataCaptureConfig=capture, **config)
    logs = shared.emulator.client("logs")
    found = logs.get_log_events(logGroupName="/kennel/warnings", logStreamName="endpoint-config/told")["events"]
    told = " ".join(event["message"] for event in found)
    for member in ("NotificationConfig.SuccessTopic", "OutputConfig.KmsKeyId", "DataCaptureConfig"):
        assert f"{member} has no effect here" in told
    output = shared.sagemaker.describe_endpoint_config(EndpointConfigName="told")["AsyncInferenceConfig"][
        "OutputConfig"
    ]
    assert output["NotificationConfig"] == {"SuccessTopic": topic}


@pytest.mark.parametrize("wrong", ["serverless", "many models"])
def test_configurations_that_sagemaker_refuses(shared: Hosted, tmp_path: Path, wrong: str) -> None:
    name = wrong.partition(" ")[0]
    variant: dict[str, Any] = {"VariantName": "all", "ModelName": name}
    container: dict[str, Any] = {"Image": "kennel-echo:test"}
    if wrong == "serverless":
        variant["ServerlessConfig"] = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    else:
        container |= {"Mode": "MultiModel", "ModelDataUrl": tmp_path.as_uri()}
        variant |= {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    shared.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn="arn:aws:iam::000000000000:role/kennel")  # fmt: skip # noqa: E501
    with refused("ValidationException", "exclude each other|cannot have models whose Mode is MultiModel"):
        shared.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant], **asynchronous(tmp_path)
        )


def test_the_aws_cli_invokes(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("cli", **asynchronous(tmp_path))
    (tmp_path / "photo.jpg").write_bytes(b"12345")
    request = {"InputLocation": (tmp_path / "photo.jpg").as_uri(), "InvocationTimeoutSeconds": 60}
    sent = shared.emulator.aws(  # a file:// URI as an option of its own would be read by the CLI itself
        "sagemaker-runtime", "invoke-endpoint-async", "--endpoint-name", "cli", "--content-type", "image/jpeg",
        "--cli-input-json", json.dumps(request),
    )  # fmt: skip
    assert answer_to(sent)["body"] == 5
    assert sent["FailureLocation"].endswith("-error.out")


def test_a_payload_of_a_hundred_megabytes_is_not_held_in_memory(shared: Hosted, tmp_path: Path) -> None:
    shared.deploy("large", **asynchronous(tmp_path))
    photo = tmp_path / "large.jpg"
    with photo.open("wb") as file:
        file.truncate(100_000_000)
    before = peak_bytes(shared.emulator.process.pid)
    assert answer_to(send(shared, "large", InputLocation=photo.as_uri()))["body"] == 100_000_000
    assert peak_bytes(shared.emulator.process.pid) - before < 50_000_000


def peak_bytes(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
