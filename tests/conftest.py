"""What every test can have: small photos made here, real ones from KENNEL_TEST_DATA, the images built once."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.images import ROOT, build_and_push, digests, docker, git, one_builds, unavailable

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: children would ignore Ctrl-C, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


def make_photos(folder: Path, *, images: int = 6, size: tuple[int, int] = (72, 64), seed: int = 0) -> Path:
    """Two classes that a network tells apart in a few steps: reddish and bluish noise."""
    rng = np.random.default_rng(seed)
    for name, channel in (("blue", 2), ("red", 0)):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            pixels = rng.integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{number:03}.jpg", quality=95)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A channel of two classes, six images each."""
    return make_photos(tmp_path / "photos")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A base folder with the channels train, validation and test."""
    base = tmp_path / "job"
    for seed, (channel, images) in enumerate({"train": 12, "validation": 4, "test": 4}.items()):
        make_photos(base / "input/data" / channel, images=images, seed=seed)
    return base


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos and weights; tests that need it are skipped where it is not set."""
    value = os.environ.get("KENNEL_TEST_DATA")
    if not value:
        pytest.skip("KENNEL_TEST_DATA is not set: it names the folder of real photos and weights")
    path = Path(value)
    assert path.is_dir(), f"KENNEL_TEST_DATA is '{value}', which is not a folder"
    return path.resolve()


@pytest.fixture
def encoded(tmp_path: Path) -> Callable[..., bytes]:
    """Encode an image and give back its bytes."""

    def encode(image: Image.Image, kind: str, **options: object) -> bytes:
        path = tmp_path / f"encoded.{kind.lower()}"
        image.save(path, kind, **options)
        return path.read_bytes()

    return encode


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
    with one_builds("base"):
        made = subprocess.run([ROOT / "docker/make_base_image.sh"], stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.strip()


@pytest.fixture(scope="session")
def images(tree: Path, base_image: str) -> dict[str, str]:
    """Names of the two images, by target."""
    with one_builds("images"):
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
    with one_builds("images"):
        done = build_and_push(tree, "--no-push", "--only", "serve-mms", "--base-image", base_image)
    assert done.returncode == 0, done.stdout + done.stderr
    [name] = digests(done.stdout)
    return name
