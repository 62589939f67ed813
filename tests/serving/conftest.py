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

from kennel.classifier.predictor import Predictor
from tests.serving.serving_harness import Server, b64, encoded, network, save, scene, serving


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


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Start servers that may or may not end by themselves."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **environ: stack.enter_context(serving(*arguments, **environ))


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[Server]:
    """One ready server for all tests of a module that do not stop it."""
    with serving(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="2") as running:
        running.wait_until_ready()
        yield running
        assert running.process.poll() is None, "a request killed the server"
        assert running.end() == (0, "")


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as connected:
        yield connected
