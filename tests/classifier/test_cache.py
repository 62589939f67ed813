"""Decoded images are kept once for all loader processes, and change nothing but the speed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kennel.classifier.data.cache import ImageCache, cache_for
from kennel.classifier.data.folder import scan
from kennel.classifier.data.loader import EpochBatches, Order, TrainingImages, evaluation_loader, training_loader
from kennel.classifier.data.memory import available_bytes
from kennel.classifier.data.preprocess import Preprocessing

SMALL = Preprocessing(36, 32)


def image(seed: int, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_what_fits_is_kept_and_the_rest_is_not() -> None:
    cache = ImageCache(3, 1_000)
    cache.put(2, image(0, 10, 20))  # 600 bytes
    cache.put(0, image(1, 12, 12))  # 432: too many for what is left
    cache.put(1, image(2, 11, 12))  # 396
    kept = [cache.get(number) for number in range(3)]
    assert kept[0] is None
    assert kept[1] is not None
    assert kept[2] is not None
    assert np.array_equal(kept[1], image(2, 11, 12))
    assert np.array_equal(kept[2], image(0, 10, 20))
    assert cache.used_bytes == 996


def test_what_one_process_keeps_another_one_finds() -> None:
    cache = ImageCache(4, 10_000)
    child = os.fork()
    if child == 0:
        cache.part(3).put(0, image(3, 5, 6))
        os._exit(0)
    os.waitpid(child, 0)
    found = cache.get(3)
    assert found is not None
    assert np.array_equal(found, image(3, 5, 6))


def batches(photos: Path, cache: ImageCache | None, workers: int) -> list[torch.Tensor]:
    folder = scan(photos)
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=0, cache=cache)
    steps = EpochBatches(Order(len(folder), 0), 5)
    training = training_loader(views, steps, workers=workers, pin=False)
    part = cache and cache.part(len(folder))
    judged = evaluation_loader(folder, SMALL, batch_size=5, workers=workers, pin=False, cache=part)
    return [torch.cat([images for images, _ in loader]) for steps.epoch in (1, 2) for loader in (training, judged)]


@pytest.mark.parametrize("workers", [0, 2])
def test_views_of_kept_images_are_those_of_the_files(photos: Path, workers: int) -> None:
    """Half of the photos are so large that their JPEG is decoded at a part of its size."""
    for path in sorted((photos / "red").glob("*.jpg")):
        Image.open(path).resize((1200, 900)).save(path)
    cache = ImageCache(24, 100_000_000)
    plain, kept = batches(photos, None, workers), batches(photos, cache, workers)
    assert all(torch.equal(one, other) for one, other in zip(plain, kept, strict=True))
    sizes = [found.shape for number in range(24) if (found := cache.get(number)) is not None]
    assert len(sizes) == 24  # twelve photos, and their centre crops
    assert sum(shape == (32, 32, 3) for shape in sizes) == 12
    assert sum(max(shape) > 100 for shape in sizes) == 6
    assert max(max(shape) for shape in sizes) < 1200  # shrunk as far as the smallest crop allows


def test_images_are_not_read_again(photos: Path) -> None:
    folder, cache = scan(photos), ImageCache(12, 10_000_000)
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=0, cache=cache)
    first = views[1, 4][0]
    folder.samples[4].path.unlink()
    assert torch.equal(views[1, 4][0], first)
    assert not torch.equal(views[2, 4][0], first)


def test_the_limit_is_a_share_of_the_free_memory() -> None:
    assert cache_for(10, "off", 1) is None
    cache = cache_for(10, "auto", 4)
    assert cache is not None
    assert len(cache._pixels) == pytest.approx(available_bytes() / 8, rel=0.2)
