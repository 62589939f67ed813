"""SageMaker's SDK v3, unmodified, deploys and asks: it knows the server's URL and its key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.emulator.emulator_harness import wait_for
from tests.emulator.hosting.hosting_harness import IMAGE, Hosted, pack

SDK = """
import json, sys
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import (
    AsyncInferenceClientConfig, AsyncInferenceConfig, AsyncInferenceOutputConfig, ContainerDefinition,
    ProductionVariant,
)

given = json.loads(sys.argv[1])
Model.create(model_name="sdk", primary_container=ContainerDefinition(image=given["image"], model_data_url=given["url"]))
variant = ProductionVariant(
    variant_name="all", model_name="sdk", instance_type="ml.m5.large", initial_instance_count=1)
EndpointConfig.create(endpoint_config_name="sdk", production_variants=[variant])
output = AsyncInferenceOutputConfig(s3_output_path=given["output"])
client = AsyncInferenceClientConfig(max_concurrent_invocations_per_instance=2)
EndpointConfig.create(endpoint_config_name="later", production_variants=[variant],
    async_inference_config=AsyncInferenceConfig(output_config=output, client_config=client))
endpoint = Endpoint.create(endpoint_name="sdk", endpoint_config_name="sdk")
endpoint.wait_for_status("InService", poll=1, timeout=120)
answer = endpoint.invoke(body=b"photo", content_type="image/jpeg", accept="application/json")
print("said", json.loads(answer.body.read())["answer"], answer.invoked_production_variant)
endpoint.endpoint_config_name = "later"
endpoint.update()
endpoint.wait_for_status("InService", poll=1, timeout=120)
print("config", Endpoint.get("sdk").async_inference_config.client_config.max_concurrent_invocations_per_instance)
sent = endpoint.invoke_async(input_location=given["input"], content_type="image/jpeg", inference_id="seven")
print("sent", sent.inference_id, sent.output_location)
print("listed", [one.endpoint_name for one in Endpoint.get_all(name_contains="sdk")])
"""


def test_the_sagemaker_sdk_creates_waits_invokes_and_invokes_later(shared: Hosted, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"12345678")
    given = {
        "image": IMAGE,
        "url": pack(tmp_path / "model.tar.gz", "meow"),
        "output": (tmp_path / "answers").as_uri(),
        "input": (tmp_path / "photo.jpg").as_uri(),
    }
    done = subprocess.run(
        [sys.executable, "-c", SDK, json.dumps(given)],
        env={**shared.emulator.environ(), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert said["said"] == "meow all"
    assert said["config"] == "2"
    assert said["listed"] == "['sdk']"
    inference, place = said["sent"].split(" ")
    assert inference == "seven"
    answer = Path(urlsplit(place).path)
    wait_for(answer.exists)
    assert json.loads(answer.read_text())["body"] == 8
