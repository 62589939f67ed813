"""Photos that every test can have: small ones made here, real ones from KENNEL_TEST_DATA."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


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
