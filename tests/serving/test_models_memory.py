"""A container whose memory holds one large model and not two: the kernel's limit, not a number of models."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
import torch

from kennel.classifier.data.preprocess import Preprocessing
from kennel.classifier.network.artifact import Meta, save_artifact
from kennel.classifier.network.model import build
from kennel.classifier.network.probes import save_probes
from tests.serving.serving_harness import CLASSES, Front, encoded, scene

PHOTO = encoded(scene(1), "JPEG")


@pytest.fixture(scope="module")
def large_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three times a network of 233 MB; loading it takes two and a half times that at its peak."""
    root = tmp_path_factory.mktemp("large")
    torch.manual_seed(3)
    meta = Meta("resnet152", CLASSES, CLASSES, Preprocessing(72, 64), {}, {}, {}, "test")
    save_artifact(root / "a/model", build("resnet152", len(CLASSES)).eval(), meta)
    save_probes(root / "a/model", torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8))
    for name in "bc":
        shutil.copytree(root / "a/model", root / name / "model")  # not links, whose pages would be shared
    return root


def invoke(client: httpx.Client, name: str) -> int:
    return client.post(f"/models/{name}/invoke", content=PHOTO, headers={"Content-Type": "image/jpeg"}).status_code


@pytest.mark.docker
@pytest.mark.timeout(1800)  # the first test builds the images
def test_models_leave_when_the_container_has_no_memory_left(serve_image: str, large_models: Path):
    front = Front("native", serve_image, memory="1600m")
    # torch in float32 maps the weights from the file, which the system may drop; OpenVINO has its own copy.
    environ = {"KENNEL_ENGINE": "openvino", "KENNEL_PRECISION": "fp32", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
    with front.serving(large_models, many=True, **environ) as server:
        server.wait_until_ready()
        with server.client() as client:
            for name in "abc":
                url = front.url(large_models, name)
                loaded = client.post("/models", json={"model_name": name, "url": url})
                assert loaded.status_code == 200, loaded.text
                assert invoke(client, name) == 200
            left = server.told("model_left")
            names = [one["model_name"] for one in left]
            assert names in (["a"], ["a", "b"]), "how much the system has dropped by then is its own affair"
            assert "MB are left" in left[0]["reason"]
            assert invoke(client, "a") == 200, "it comes back"
        assert server.end()[0] == 0, "and nobody was killed for memory"
