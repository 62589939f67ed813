"""What the serving tests share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from kennel.classifier.network.predictor import Predictor
from kennel.contract.errors import ConfigError
from serving.backends.mms_process import check_installed
from tests.images import unavailable
from tests.serving.serving_harness import Front, Server, b64, encoded, network, save, scene


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As the server's workers compute; two threads beside a busy core spin for its turn and take ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("artifact") / "model", network())


@pytest.fixture(scope="session")
def predictor(artifact: Path) -> Predictor:
    return Predictor.load(artifact)


@pytest.fixture(scope="session")
def photos() -> dict[str, bytes]:
    """One encoded image for each kind of file that people send."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    alpha = scene(6).convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    grey16 = Image.fromarray(np.asarray(scene(7).convert("L")).astype(np.uint16) * 257)
    return {
        "jpeg": encoded(scene(1), "JPEG", quality=90),
        "rotated": encoded(scene(2), "JPEG", quality=90, exif=exif),
        "cmyk": encoded(scene(3).convert("CMYK"), "JPEG"),
        "12-megapixel": encoded(scene(4, 4000, 3000), "JPEG", quality=60),
        "grey": encoded(scene(5).convert("L"), "PNG"),
        "alpha": encoded(alpha, "PNG"),
        "16-bit": encoded(grey16, "PNG"),
        "palette": encoded(scene(8).convert("P"), "PNG"),
        "webp": encoded(scene(9), "WEBP", lossless=True),
        "bmp": encoded(scene(10, 200, 150), "BMP"),
        "tiff": encoded(scene(11, 200, 150), "TIFF"),
        "one-pixel": encoded(scene(12, 1, 1), "PNG"),
    }


@pytest.fixture(scope="session")
def slow_body() -> bytes:
    """A request that keeps one worker busy for a second or more: 64 large pictures that are small files."""
    large = b64(encoded(Image.new("RGB", (1500, 1000), "teal"), "PNG"))
    return json.dumps([large] * 64).encode()


_IN_DOCKER = (pytest.mark.docker, pytest.mark.timeout(1800))  # the first test builds the images
FRONTS = (
    pytest.param("native", id="native"),
    pytest.param("mms", id="mms", marks=pytest.mark.slow),
    pytest.param("serve_image", id="native in a container", marks=_IN_DOCKER),
    pytest.param("serve_mms_image", id="mms in a container", marks=_IN_DOCKER),
)


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest) -> Front:
    """Every way to serve, one after the other: what is tested with it holds for all of them."""
    if request.param == "mms":
        try:
            check_installed()
        except ConfigError as error:
            unavailable(str(error))
    if request.param in ("native", "mms"):
        return Front(request.param)
    kind = "mms" if "mms" in request.param else "native"
    return Front(kind, request.getfixturevalue(request.param))


@pytest.fixture
def start_server(front: Front) -> Iterator[Callable[..., Server]]:
    """Start servers that may or may not end by themselves."""
    with contextlib.ExitStack() as stack:
        yield lambda folder, **options: stack.enter_context(front.serving(folder, **options))


@pytest.fixture(scope="module")
def server(front: Front, artifact: Path) -> Iterator[Server]:
    """One ready server for all tests of a module that do not stop it."""
    with front.serving(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="2") as running:
        running.wait_until_ready()
        yield running
        assert running.process.poll() is None, "a request killed the server"
        assert running.end() == (0, "")


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as connected:
        yield connected
