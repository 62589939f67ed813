"""The limits of hosting that take a minute to reach, all of them reached at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.contract.contract_harness import RUNNERS_AND_TIME, Platform

pytestmark = pytest.mark.parametrize("platform", RUNNERS_AND_TIME, indirect=True, scope="module")


@dataclass(frozen=True)
class Timed:
    """What came of something, and after how long."""

    result: Any
    seconds: float


def timed(call: Callable[[], Any]) -> Timed:
    begun = time.monotonic()
    return Timed(call(), time.monotonic() - begun)


@pytest.fixture(scope="module")
def reached(platform: Platform) -> dict[str, Timed]:
    """Every limit by its name."""
    platform.deploy("slow")
    platform.deploy("deaf", DEAF="1")
    platform.create("never", instances(ContainerStartupHealthCheckTimeoutInSeconds=60), PING_STATUS="500")

    def invoke() -> dict[str, Any]:
        with pytest.raises(ClientError) as caught:
            platform.invoke("slow", sleep_s=600)
        return dict(caught.value.response)

    with ThreadPoolExecutor() as pool:
        waits: dict[str, Future[Timed]] = {
            "answer": pool.submit(timed, invoke),
            "stop": pool.submit(timed, lambda: platform.delete("deaf")),
            "start": pool.submit(timed, lambda: platform.settled("never")),
        }
    return {name: wait.result() for name, wait in waits.items()}


def instances(**members: Any) -> dict[str, Any]:
    return {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1, **members}


@pytest.mark.timeout(300)
def test_an_answer_has_sixty_seconds(reached: dict[str, Timed]) -> None:
    error = reached["answer"].result["Error"]
    assert error["Code"] == "ModelError"
    assert "Your invocation timed out" in error["Message"]
    assert reached["answer"].seconds >= 60


def test_a_container_that_ignores_sigterm_is_killed_after_thirty_seconds(
    platform: Platform, reached: dict[str, Timed]
) -> None:
    assert reached["stop"].seconds >= 30
    assert platform.log("/aws/sagemaker/Endpoints/deaf")[-1] == "SIGTERM"


def test_a_container_that_never_passes_ping_fails_when_its_start_up_time_is_over(reached: dict[str, Timed]) -> None:
    found = reached["start"].result
    assert found["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check in 60 s" in found["FailureReason"]
    assert "HTTP status 500" in found["FailureReason"]
