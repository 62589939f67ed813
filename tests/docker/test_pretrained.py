"""First weights baked into the train image at build time."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kennel.classifier.network.model import build
from tests.images import build_and_push, digests, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict as torchvision publishes them."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(build("squeezenet1_1", 1000).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def url(weights: Path) -> Iterator[str]:
    """Where the build finds the weights: on this machine's loopback."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=weights.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{weights.name}"
        server.shutdown()
        thread.join()


def bake(tree: Path, base_image: str, url: str, sha256: str) -> tuple[str, str]:
    """Build a train image with weights; what it is called, or nothing, and what the build said."""
    done = build_and_push(
        tree, "--no-push", "--only", "train", "--train-name", "kennel-train-baked", "--base-image", base_image,
        "--pretrained-url", url, "--pretrained-sha256", sha256, "--pretrained-arch", "squeezenet1_1",
        KENNEL_BUILD_NETWORK="host",
    )  # fmt: skip
    assert done.returncode in (0, 1)
    return next(iter(digests(done.stdout)), ""), done.stderr


def test_baked_weights_are_what_a_job_without_a_network_starts_from(
    images: dict[str, str],  # noqa: ARG001 - builds the layers below
    tree: Path,
    base_image: str,
    weights: Path,
    url: str,
) -> None:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    image, said = bake(tree, base_image, url, sha256)
    assert image, said
    program = """\
import os, pathlib
from kennel.classifier.network.model import find_pretrained
print(find_pretrained("auto", "squeezenet1_1", None).source)
"""
    try:
        done = docker("run", "--rm", "--network=none", "--entrypoint=python", image, "-c", program)
    finally:
        docker("rmi", "--force", image, "kennel-train-baked:latest")
    assert done.stdout.strip() == "the image, file squeezenet1_1.pth"


def test_weights_of_another_digest_fail_the_build_and_both_are_named(
    images: dict[str, str],  # noqa: ARG001
    tree: Path,
    base_image: str,
    weights: Path,
    url: str,
) -> None:
    image, said = bake(tree, base_image, url, "0" * 64)
    assert not image
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"has SHA-256 {found}, not {'0' * 64}" in said
    assert "building kennel-train-baked failed" in said


def test_nothing_is_baked_unless_asked_for(train_image: str) -> None:
    done = docker("run", "--rm", "--entrypoint=ls", train_image, "-A", "/opt/kennel-pretrained")
    assert done.stdout == ""
