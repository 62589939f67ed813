"""Clause by clause what SageMaker promises a serving container, with the emulator's endpoints as the platform."""

from __future__ import annotations

import re
import time

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from kennel.emulator.containers.container import PING_S, STARTUP_S
from kennel.emulator.runners.namespaces import possible
from tests.emulator.contract.contract_harness import Platform, both_runners

pytestmark = both_runners
LIMIT_BYTES = 6_291_456


def refused(code: str, match: str) -> pytest.RaisesExc[ClientError]:
    return pytest.raises(ClientError, match=rf"\({code}\).*{match}")


def test_the_image_is_started_with_serve_and_has_its_model(platform: Platform) -> None:
    platform.deploy("start")
    said = platform.ask("start")
    assert said["arguments"] == ["serve"]
    assert said["model"] == {"weights.txt": "weights"}
    assert said["user"] == 0 or platform.runner == "process"
    if platform.runner == "docker" or possible():
        assert said["write"] == "Read-only file system"
    platform.delete("start")


def test_the_port_is_8080_or_what_the_platform_says(platform: Platform) -> None:
    platform.deploy("port")
    port = platform.ask("port")["environ"]["SAGEMAKER_BIND_TO_PORT"]
    assert port == "8080" if platform.runner == "docker" else int(port) > 1023
    platform.delete("port")


def test_ping_is_a_get_without_a_body_and_each_attempt_has_two_seconds(platform: Platform) -> None:
    begun = time.monotonic()
    platform.deploy("ping", PING_SLEEP_S="600")  # the first attempt only
    assert time.monotonic() - begun >= PING_S == 2
    pings = platform.ask("ping")["pings"]
    assert len(pings) > 1
    assert {tuple(one) for one in pings} == {("/ping", None)}
    platform.delete("ping")


def test_start_up_has_four_minutes_unless_the_request_says_60_to_3600_s(platform: Platform) -> None:
    assert STARTUP_S == 240
    for seconds in (59, 3601):
        variant = {
            "VariantName": "all", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1,
            "ContainerStartupHealthCheckTimeoutInSeconds": seconds,
        }  # fmt: skip
        with pytest.raises((ClientError, ParamValidationError), match="ContainerStartupHealthCheckTimeoutInSeconds"):
            platform.sagemaker.create_endpoint_config(EndpointConfigName="limit", ProductionVariants=[variant])


def test_an_invocation_is_a_post_with_the_clients_body_and_type(platform: Platform) -> None:
    platform.deploy("invoke")
    said = platform.ask("invoke", b'{"a": 1}')
    assert (said["path"], said["body_bytes"]) == ("/invocations", 8)
    assert said["headers"]["content-type"] == "application/json"
    platform.delete("invoke")


def test_an_answer_that_is_no_success_is_a_model_error_with_its_status(platform: Platform) -> None:
    platform.deploy("error")
    for status in (301, 400, 503):
        with refused("ModelError", str(status)) as caught:
            platform.invoke("error", status=status)
        assert caught.value.response["OriginalStatusCode"] == status
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    platform.delete("error")


def test_a_payload_has_six_mebibytes_both_ways(platform: Platform) -> None:
    platform.deploy("payload")
    assert platform.ask("payload", b"x" * LIMIT_BYTES)["body_bytes"] == LIMIT_BYTES
    assert len(platform.invoke("payload", size=LIMIT_BYTES)) == LIMIT_BYTES
    with pytest.raises(ClientError, match=str(LIMIT_BYTES)):
        platform.invoke("payload", b"x" * (LIMIT_BYTES + 1))
    with refused("ModelError", str(LIMIT_BYTES)):
        platform.invoke("payload", size=LIMIT_BYTES + 1)
    platform.delete("payload")


def test_sigterm_comes_first_and_who_heeds_it_ends_at_once(platform: Platform) -> None:
    platform.deploy("stop")
    platform.ask("stop")
    assert platform.delete("stop") < 25  # of the 30 s that it would have had
    assert platform.log("/aws/sagemaker/Endpoints/stop")[-1] == "SIGTERM"


def test_the_models_variables_and_the_toolkits_reach_the_container(platform: Platform) -> None:
    toolkit = {
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "90", "SAGEMAKER_TS_BATCH_SIZE": "4",
        "SAGEMAKER_TS_MAX_BATCH_DELAY": "10", "SAGEMAKER_TS_MIN_WORKERS": "1", "SAGEMAKER_TS_MAX_WORKERS": "2",
        "SAGEMAKER_TS_RESPONSE_TIMEOUT": "30",
    }  # fmt: skip
    platform.deploy("environ", **toolkit, MY_OWN="a b=c")
    environ = platform.ask("environ")["environ"]
    assert environ.items() >= {**toolkit, "MY_OWN": "a b=c", "AWS_REGION": "eu-central-1"}.items()
    assert "SAGEMAKER_BATCH" not in environ
    assert "SAGEMAKER_MULTI_MODEL" not in environ
    platform.delete("environ")


@pytest.mark.parametrize(("memory_mb", "concurrency"), [(512, 1), (7168, 1), (1024, 0), (1024, 201)])
def test_a_serverless_variant_has_1_to_6_gb_and_1_to_200_requests_at_once(
    platform: Platform, memory_mb: int, concurrency: int
) -> None:
    wrong = {"MemorySizeInMB": memory_mb, "MaxConcurrency": concurrency}
    variant = {"VariantName": "all", "ModelName": "m", "ServerlessConfig": wrong}
    with pytest.raises((ClientError, ParamValidationError), match="MemorySizeInMB|MaxConcurrency"):
        platform.sagemaker.create_endpoint_config(EndpointConfigName="wrong", ProductionVariants=[variant])


def test_a_serverless_endpoint_answers(platform: Platform) -> None:
    platform.deploy("serverless", {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 2}})
    assert platform.ask("serverless")["arguments"] == ["serve"]
    told = [text for text in platform.warnings("endpoint-config/serverless") if "MemorySizeInMB" in text]
    assert re.search("has no effect here: a container has the memory of this machine", told[0])
    platform.delete("serverless")


def test_an_inference_ami_version_is_recorded_and_told(platform: Platform) -> None:
    variant = {
        "VariantName": "all", "ModelName": "ami", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1,
        "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-3-1",
    }  # fmt: skip
    platform.model("ami")
    platform.sagemaker.create_endpoint_config(EndpointConfigName="ami", ProductionVariants=[variant])
    found = platform.sagemaker.describe_endpoint_config(EndpointConfigName="ami")["ProductionVariants"][0]
    assert found["InferenceAmiVersion"] == variant["InferenceAmiVersion"]
    assert any("InferenceAmiVersion has no effect here" in text for text in platform.warnings("endpoint-config/ami"))
