"""The images that tests of several kinds run, built once a session from the tree as it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.images import ROOT, build_and_push, digests, docker, git, unavailable


@pytest.fixture(scope="session")
def docker_daemon() -> None:
    """Everything below needs one."""
    if not shutil.which("docker"):
        unavailable("docker is not on PATH")
    if docker("info", check=False).returncode:
        unavailable("no docker daemon answers")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as it is now, so that an edit while the tests run changes neither images nor tags."""
    copy = tmp_path_factory.mktemp("tree") / "kennel"
    git(ROOT, "clone", "--quiet", str(ROOT), str(copy))
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]:
        (copy / name).unlink(missing_ok=True)
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="session")
def base_image(docker_daemon: None) -> str:  # noqa: ARG001 - marks cannot be put on fixtures
    """BASE_IMAGE where it is set, or else the stand-in made from Debian packages."""
    if os.environ.get("BASE_IMAGE"):
        return os.environ["BASE_IMAGE"]
    if docker("image", "inspect", "kennel-base:bookworm", check=False).returncode and not shutil.which("mmdebstrap"):
        unavailable("BASE_IMAGE is not set and mmdebstrap, which makes the stand-in, is not on PATH")
    made = subprocess.run([ROOT / "docker/make_base_image.sh"], stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.strip()


@pytest.fixture(scope="session")
def images(tree: Path, base_image: str) -> dict[str, str]:
    """Names of the two images, by target."""
    done = build_and_push(tree, "--no-push", "--base-image", base_image)
    assert done.returncode == 0, done.stdout + done.stderr
    return {re.sub("kennel-|:.*", "", name): name for name in digests(done.stdout)}


@pytest.fixture(scope="session")
def train_image(images: dict[str, str]) -> str:
    return images["train"]


@pytest.fixture(scope="session")
def serve_image(images: dict[str, str]) -> str:
    return images["serve"]


@pytest.fixture(scope="session")
def serve_mms_image(images: dict[str, str], tree: Path, base_image: str) -> str:  # noqa: ARG001 - the layers below
    """Name of the image with multi-model-server."""
    done = build_and_push(tree, "--no-push", "--only", "serve-mms", "--base-image", base_image)
    assert done.returncode == 0, done.stdout + done.stderr
    [name] = digests(done.stdout)
    return name
