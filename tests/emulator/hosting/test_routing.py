"""Who answers: instances that die or are busy, variants that are out of service, scaling that fails, isolation."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.emulator_harness import wait_for
from tests.emulator.hosting.hosting_harness import IMAGE, ROLE, Hosted, refused
from tests.images import docker


def scale(hosted: Hosted, name: str, variant: str, **wanted: Any) -> None:
    hosted.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": variant, **wanted}]
    )


def test_when_an_instance_dies_the_other_one_answers(shared: Hosted) -> None:
    shared.deploy("pair", count=2)
    pids = {shared.say("pair")["pid"] for _ in range(4)}
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{victim}").exists())  # then its sockets are closed
    said = [shared.say("pair")["pid"] for _ in range(6)]
    assert said == [max(pids)] * 6, "no request fails"
    wait_for(lambda: len({shared.say("pair")["pid"] for _ in range(4)}) == 2)  # and the dead one is replaced


@pytest.mark.parametrize(("strategy", "shared_evenly"), [("LEAST_OUTSTANDING_REQUESTS", False), ("RANDOM", True)])
def test_the_least_busy_instance_answers_where_the_variant_wants_it(
    shared: Hosted, strategy: str, shared_evenly: bool
) -> None:
    name = f"route-{strategy.partition('_')[0].lower()}"
    shared.model(name, "meow")
    variant = {"VariantName": name, "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    variant["RoutingConfig"] = {"RoutingStrategy": strategy}
    shared.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    found = shared.create(name)
    assert found["ProductionVariants"][0]["RoutingConfig"] == {"RoutingStrategy": strategy}
    with shared.in_flight(name, {"sleep_s": 4, "print": "at work"}):
        wait_for(lambda: "at work" in logs(shared, name))
        assert len({shared.say(name)["pid"] for _ in range(8)}) == (2 if shared_evenly else 1)


def logs(hosted: Hosted, name: str) -> str:
    folder = hosted.emulator.home / "logs/aws/sagemaker/Endpoints" / name
    return "".join(path.read_text() for path in folder.iterdir())


def test_an_update_keeps_weights_and_counts_where_it_is_told_to(shared: Hosted) -> None:
    shared.deploy("keep")
    shared.config("keep-again", "keep", DataCaptureConfig=capture(shared.folder))
    scale(shared, "keep", "keep", DesiredWeight=0.5, DesiredInstanceCount=2)
    shared.settled("keep")

    def update(**members: Any) -> tuple[float, int, bool]:
        shared.sagemaker.update_endpoint(EndpointName="keep", EndpointConfigName="keep-again", **members)
        found = shared.settled("keep")
        [variant] = found["ProductionVariants"]
        return variant["DesiredWeight"], variant["DesiredInstanceCount"], "DataCaptureConfig" in found

    assert update(RetainAllVariantProperties=True) == (0.5, 2, False)
    excluded = [{"VariantPropertyType": kind} for kind in ("DesiredInstanceCount", "DataCaptureConfig")]
    kept = update(RetainAllVariantProperties=True, ExcludeRetainedVariantProperties=excluded)
    assert kept == (0.5, 1, True)
    assert update() == (1.0, 1, True)


def capture(folder: Path) -> dict[str, Any]:
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": (folder / "captured").as_uri(),
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }


def test_a_variant_whose_instances_keep_failing_is_out_of_service_until_they_start(
    shared: Hosted, tmp_path: Path
) -> None:
    flag = tmp_path / "broken"
    shared.model("well", "meow")
    shared.model("ill", "woof", START_EXIT_IF=str(flag))
    shared.config("mixed", "well", "ill")
    shared.create("mixed")
    shared.config("alone", "ill")
    shared.create("alone")
    flag.touch()
    for name, members in (("mixed", {"TargetVariant": "ill"}), ("alone", {})):
        os.kill(shared.say(name, **members)["pid"], signal.SIGKILL)
    found = wait_for(lambda: status(shared, "alone", "OutOfService"))
    assert "exit code 5" in found["FailureReason"]
    assert "there is no such class" in found["FailureReason"]
    with refused("ServiceUnavailable", "No instance of endpoint alone is healthy"):
        shared.invoke("alone")
    with refused("ServiceUnavailable", "No instance of endpoint mixed is healthy"):
        shared.invoke("mixed", TargetVariant="ill")
    assert {shared.say("mixed")["answer"] for _ in range(10)} == {"meow"}, "the other variant takes all requests"
    counts = {v["VariantName"]: v["CurrentInstanceCount"] for v in shared.describe("mixed")["ProductionVariants"]}
    assert counts == {"well": 1, "ill": 0}
    flag.unlink()
    found = wait_for(lambda: status(shared, "alone", "InService"))
    assert "FailureReason" not in found
    assert shared.say("alone")["answer"] == "woof"


def status(hosted: Hosted, name: str, wanted: str) -> dict[str, Any] | None:
    found = hosted.describe(name)
    return found if found["EndpointStatus"] == wanted else None


def test_a_scaling_that_fails_goes_back_to_what_runs(shared: Hosted, tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    shared.model("grow", "meow", START_EXIT_IF=str(flag))
    shared.config("grow", "grow")
    shared.create("grow")
    pid = shared.say("grow")["pid"]
    flag.touch()
    scale(shared, "grow", "grow", DesiredInstanceCount=3)
    assert shared.describe("grow")["EndpointStatus"] == "Updating"
    found = shared.settled("grow")
    [variant] = found["ProductionVariants"]
    assert (found["EndpointStatus"], variant["DesiredInstanceCount"]) == ("InService", 1)
    assert "could not be scaled" in found["FailureReason"]
    assert "exit code 5" in found["FailureReason"]
    assert shared.say("grow")["pid"] == pid, "it has answered all the time"
    with refused("ValidationException", "Could not find variant"):
        scale(shared, "grow", "shrink", DesiredInstanceCount=1)


def test_a_serverless_variant_takes_as_many_requests_as_it_says(shared: Hosted) -> None:
    shared.model("spare", "meow")
    variant = {"VariantName": "all", "ModelName": "spare"}
    variant["ServerlessConfig"] = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}  # type: ignore[assignment]
    shared.sagemaker.create_endpoint_config(EndpointConfigName="spare", ProductionVariants=[variant])
    found = shared.create("spare")
    assert found["ProductionVariants"][0]["CurrentServerlessConfig"]["MaxConcurrency"] == 1
    with shared.in_flight("spare", {"sleep_s": 3, "print": "at work"}):
        wait_for(lambda: "at work" in logs(shared, "spare"))
        with refused("ThrottlingException", "answers 1 requests at once"):
            shared.invoke("spare")
    assert shared.say("spare")["answer"] == "meow"


@pytest.mark.docker
@pytest.mark.parametrize("runner_name", ["docker"], indirect=True)
@pytest.mark.parametrize("asked_by", ["model", "config"])
def test_an_isolated_container_answers_and_reaches_nobody(hosted: Hosted, asked_by: str) -> None:
    alone = {"EnableNetworkIsolation": True}
    hosted.sagemaker.create_model(
        ModelName="alone",
        PrimaryContainer={"Image": IMAGE},
        ExecutionRoleArn=ROLE,
        **(alone if asked_by == "model" else {}),
    )
    hosted.config("alone", "alone", **(alone if asked_by == "config" else {}))
    found = hosted.create("alone")
    assert found["EndpointStatus"] == "InService", found
    hosted.deploy("free")
    reach = {"CustomAttributes": json.dumps({"reach": address_of(hosted, "free")})}
    hosted.deploy("other")
    assert hosted.say("other", **reach)["reached"] == "somebody"
    assert hosted.say("alone", **reach)["reached"] != "somebody"


def test_where_nothing_can_be_isolated_the_warnings_say_so(shared: Hosted) -> None:
    shared.sagemaker.create_model(
        ModelName="open", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE, EnableNetworkIsolation=True
    )
    shared.config("open", "open", EnableNetworkIsolation=True)
    for stream in ("model/open", "endpoint-config/open"):
        found = shared.emulator.client("logs").get_log_events(logGroupName="/kennel/warnings", logStreamName=stream)
        assert any("EnableNetworkIsolation has no effect here" in event["message"] for event in found["events"])


def address_of(hosted: Hosted, endpoint: str) -> str:
    """That of an endpoint's container on docker's own network."""
    home = f"label=kennel.home={hosted.emulator.home}"
    found = docker("ps", "--quiet", "--filter", home, "--filter", f"label=kennel.endpoint={endpoint}").stdout.strip()
    return docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", found).stdout.strip()


@pytest.mark.docker
@pytest.mark.parametrize("runner_name", ["docker"], indirect=True)
def test_an_image_without_the_label_cannot_serve_several_models(
    hosted: Hosted, base_image: str, tmp_path: Path
) -> None:
    container = {"Image": base_image, "Mode": "MultiModel", "ModelDataUrl": tmp_path.as_uri()}
    hosted.sagemaker.create_model(ModelName="plain", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    hosted.config("plain", "plain")
    found = hosted.create("plain")
    assert found["EndpointStatus"] == "Failed"
    assert "lacks the label com.amazonaws.sagemaker.capabilities.multi-models=true" in found["FailureReason"]
