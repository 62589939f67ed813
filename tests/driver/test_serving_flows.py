"""Asking, waiting and failing, against an AWS that says what each test needs."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from kennel.contract.paths import PAYLOAD_LIMIT_BYTES
from kennel.driver.endpoints import endpoints as hosting
from kennel.driver.endpoints import predict as predicting
from kennel.driver.endpoints import transform as transforming
from kennel.driver.endpoints.predict import Question
from kennel.driver.errors import DriverError
from kennel.driver.session.clients import Clients
from kennel.driver.session.home import Home
from kennel.driver.session.project import Project
from kennel.driver.session.reporting import Lines
from kennel.driver.session.session import Session
from tests.driver.conftest import REGION
from tests.driver.scripted_aws import Script, scripted

INVOKE = "/endpoints/dogs/invocations"
PREDICTIONS = {
    "predictions": [
        {"label": "bees", "class": "bees", "probability": 0.75},
        {"label": "ants", "class": "ants", "probability": 0.25},
    ]
}


@pytest.fixture
def script() -> Iterator[tuple[Script, str]]:
    with scripted() as playing:
        yield playing


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def session(script: tuple[Script, str], tmp_path: Path, told: list[str]) -> Session:
    """A session whose clients talk to the script."""
    made = Session(Project(on="local"), Home(tmp_path / "home"), Lines(told.append))
    keys = {"aws_access_key_id": "t", "aws_secret_access_key": "t"}
    own = {
        name: boto3.client(name, region_name=REGION, endpoint_url=script[1], **keys)
        for name in ("sagemaker", "sagemaker-runtime", "logs")
    }
    made.clients = Clients(REGION, None, own)
    return made


def test_photos_are_sent_as_they_are_and_answered_in_order(
    session: Session, script: tuple[Script, str], photos: Path
) -> None:
    script[0].answers[INVOKE] = [(200, PREDICTIONS)]
    paths = predicting.photos([photos / "red", photos / "blue/000.jpg"])
    answers = list(predicting.predict(session, Question("dogs", top_k=2), paths))
    assert [answer.path for answer in answers] == [*sorted((photos / "red").iterdir()), photos / "blue/000.jpg"]
    assert answers[0].predictions[0] == predicting.Prediction("bees", 0.75)
    assert answers[0].variant == "AllTraffic"
    _, headers, body = script[0].seen[-1]
    assert {body for _, _, body in script[0].seen} == {path.read_bytes() for path in paths}
    assert headers["Content-Type"] == "image/jpeg"
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == "top_k=2"
    assert headers["Accept"] == "application/json"
    assert body


def test_a_refused_photo_leaves_the_others_alone(session: Session, script: tuple[Script, str], photos: Path) -> None:
    refusal = {
        "__type": "ModelError",
        "Message": "Received client error (400) from primary",
        "OriginalStatusCode": 400,
        "OriginalMessage": json.dumps({"error": "The image was refused: damaged image.", "code": "invalid_image"}),
    }
    script[0].answers[INVOKE] = [(424, refusal), (200, PREDICTIONS)]
    large = photos / "red/large.png"
    large.write_bytes(bytes(PAYLOAD_LIMIT_BYTES + 1))
    paths = [photos / "red/000.jpg", large]
    first, second = predicting.predict(session, Question("dogs"), paths)
    assert first.error == "The image was refused: damaged image. (status 400)"
    assert second.error == f"{PAYLOAD_LIMIT_BYTES + 1} bytes are more than an endpoint takes ({PAYLOAD_LIMIT_BYTES})"
    assert first.to_json() == {"path": str(first.path), "error": first.error}


def test_an_endpoint_that_is_none_ends_the_whole(session: Session, script: tuple[Script, str], photos: Path) -> None:
    script[0].answers[INVOKE] = [(400, {"__type": "ValidationError", "message": "Endpoint dogs not found."})]
    with pytest.raises(DriverError, match="Endpoint dogs not found") as refused:
        list(predicting.predict(session, Question("dogs"), [photos / "red/000.jpg"]))
    assert "kennel endpoints" in refused.value.hint


def test_an_answer_of_another_kind_of_model_is_named(
    session: Session, script: tuple[Script, str], photos: Path
) -> None:
    script[0].answers[INVOKE] = [(200, b"[0.1, 0.9]")]
    with pytest.raises(DriverError, match=r"not a classifier's: \[0.1, 0.9\]"):
        list(predicting.predict(session, Question("dogs"), [photos / "red/000.jpg"]))


def test_a_heat_map_comes_as_png(session: Session, script: tuple[Script, str], photos: Path) -> None:
    script[0].answers[INVOKE] = [(200, {**PREDICTIONS, "heat_map": base64.b64encode(b"png").decode()})]
    [answer] = predicting.predict(session, Question("dogs", explain=True), [photos / "red/000.jpg"])
    assert answer.heat_map == b"png"
    assert script[0].seen[0][1]["X-Amzn-SageMaker-Custom-Attributes"] == "top_k=5;explain=true"


def test_an_asynchronous_answer_is_fetched_from_where_it_is_left(
    session: Session, script: tuple[Script, str], photos: Path, tmp_path: Path
) -> None:
    output, failure = tmp_path / "answer.out", tmp_path / "failure.out"
    script[0].answers["/endpoints/dogs/async-invocations"] = [(202, {"InferenceId": "1"})]
    question = Question("dogs", asynchronous=True, timeout_s=0.1)
    with pytest.raises(DriverError, match="no place for its answer"):
        list(predicting.predict(session, question, [photos / "red/000.jpg"]))
    source = script[0].seen[0][1]["X-Amzn-SageMaker-InputLocation"]
    assert source.startswith((tmp_path / "home/async-input").as_uri())
    assert not output.exists()
    assert not failure.exists()


def test_nothing_to_ask_about_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="No image to ask about"):
        predicting.photos([tmp_path])
    with pytest.raises(DriverError, match="is not there"):
        predicting.photos([tmp_path / "x.jpg"])


def endpoint(status: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {
        "EndpointName": "dogs", "EndpointArn": "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/dogs",
        "EndpointConfigName": "c1", "EndpointStatus": status, "CreationTime": time.time(),
        "LastModifiedTime": time.time(), **more,
    }  # fmt: skip


def test_deploying_tells_what_it_waits_for(session: Session, script: tuple[Script, str], told: list[str]) -> None:
    script[0].answers["DescribeEndpoint"] = [endpoint("Creating"), endpoint("Creating"), endpoint("InService")]
    hosting.wait(session, "dogs", config="c1")
    assert told[0] == "dogs is Creating: waiting for the machine, the image, the model; /ping must answer 200"
    assert told[1] == "dogs is InService"
    assert len(told) == 3


def test_a_failed_endpoint_shows_the_end_of_its_log(session: Session, script: tuple[Script, str]) -> None:
    script[0].answers |= {
        "DescribeEndpoint": [endpoint("Failed", FailureReason="The primary container did not pass the ping check.")],
        "DescribeLogStreams": [(200, {"logStreams": [{"logStreamName": "AllTraffic/i-1"}]})],
        "GetLogEvents": [
            (200, {"events": [{"timestamp": 1, "message": "no artifact"}], "nextForwardToken": "f/1"}),
            (200, {"events": [], "nextForwardToken": "f/1"}),
        ],
    }
    with pytest.raises(DriverError) as failed:
        hosting.wait(session, "dogs")
    assert str(failed.value).splitlines() == [
        "Endpoint dogs failed: The primary container did not pass the ping check.", "    no artifact",
    ]  # fmt: skip


def test_an_update_that_was_rolled_back_is_a_failure(session: Session, script: tuple[Script, str]) -> None:
    script[0].answers["DescribeEndpoint"] = [endpoint("Updating"), endpoint("RollingBack"), endpoint("InService")]
    with pytest.raises(DriverError, match="Endpoint dogs still has the configuration c1, not c2"):
        hosting.wait(session, "dogs", config="c2")


def test_waiting_ends_when_it_must(session: Session, script: tuple[Script, str]) -> None:
    script[0].answers["DescribeEndpoint"] = [endpoint("Creating")]
    with pytest.raises(DriverError, match="is still Creating after"):
        hosting.wait(session, "dogs", timeout_s=0.1)


def transform(status: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"TransformJobName": "t", "TransformJobStatus": status, **more}


def test_a_transform_job_is_waited_for_and_its_time_is_noted(session: Session, script: tuple[Script, str]) -> None:
    session.record.confirm(session.record.begin("transform-job", "t", "local", REGION))
    script[0].answers["DescribeTransformJob"] = [
        transform("InProgress"), transform("Completed", TransformStartTime=100.0, TransformEndTime=160.0),
    ]  # fmt: skip
    transforming.wait(session, "t")
    assert session.record.entries()[0].details == {"billable_s": 60.0}
    script[0].answers["DescribeTransformJob"] = [transform("Failed", FailureReason="bad data")]
    with pytest.raises(DriverError, match="Transform job t failed: bad data"):
        transforming.wait(session, "t")


def test_a_request_without_an_answer_stays_recorded(session: Session, script: tuple[Script, str]) -> None:
    """The resource may exist: a server error is no refusal, and clean will look."""
    request = {"ModelName": "m", "ExecutionRoleArn": "arn:aws:iam::123456789012:role/r"}
    script[0].answers["CreateModel"] = [(400, {"__type": "ValidationException", "message": "no"})]
    with pytest.raises(DriverError):
        session.create("CreateModel", "model", "m", request)
    assert session.record.entries() == []
    script[0].answers["CreateModel"] = [(501, {"__type": "NotImplemented", "message": "no"})]
    with pytest.raises(DriverError):
        session.create("CreateModel", "model", "m", request)
    [entry] = session.record.entries()
    assert (entry.state, entry.name) == ("creating", "m")
