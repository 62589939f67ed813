from pathlib import Path

import numpy as np
import torch

from kennel.classifier.folder import scan
from kennel.classifier.loader import EpochSampler, TrainingImages, evaluation_loader, random_box, training_loader
from kennel.classifier.preprocess import Preprocessing, evaluation_tensor

SMALL = Preprocessing(36, 32)


def epochs(photos: Path, *, workers: int, seed: int = 0) -> list[torch.Tensor]:
    folder = scan(photos)
    sampler = EpochSampler(len(folder), seed)
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=seed)
    loader = training_loader(views, sampler, batch_size=5, workers=workers, pin=False)
    found = []
    for epoch in (1, 2):
        sampler.epoch = epoch
        found.append(torch.cat([images for images, _ in loader]))
    return found


def test_batches_are_the_same_for_any_number_of_workers(photos: Path) -> None:
    for here, there in zip(epochs(photos, workers=0), epochs(photos, workers=2), strict=True):
        assert torch.equal(here, there)


def test_every_epoch_and_every_seed_has_its_own_views(photos: Path) -> None:
    first, second = epochs(photos, workers=0)
    assert not torch.equal(first, second)
    assert not torch.equal(first, epochs(photos, workers=0, seed=1)[0])


def test_an_epoch_visits_every_image_once() -> None:
    sampler = EpochSampler(10, seed=3)
    assert sorted(index for _, index in sampler) == list(range(10))


def test_a_last_batch_of_one_image_is_left_out(photos: Path) -> None:
    folder = scan(photos)
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=0)
    sizes = [
        len(targets) for _, targets in training_loader(views, EpochSampler(12, 0), batch_size=11, workers=0, pin=False)
    ]
    assert sizes == [11]


def test_evaluation_keeps_the_order_and_the_view_of_serving(photos: Path) -> None:
    folder = scan(photos)
    loader = evaluation_loader(folder, SMALL, batch_size=5, workers=0, pin=False)
    images = torch.cat([images for images, _ in loader])
    assert torch.equal(images[7], evaluation_tensor(folder.samples[7].path, SMALL))


def test_random_boxes_lie_inside_and_reach_the_smallest_area() -> None:
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(500):
        left, upper, right, lower = random_box((300, 200), 0.25, rng)
        assert 0 <= left < right <= 300
        assert 0 <= upper < lower <= 200
        areas.append((right - left) * (lower - upper) / 60_000)
    assert min(areas) >= 0.24
    assert min(areas) < 0.3
    assert max(areas) > 0.85
    assert random_box((1000, 1), 0.25, rng)[3] == 1  # nothing of the wanted shape fits; the centre does
