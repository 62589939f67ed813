from pathlib import Path

import numpy as np
import pytest
import torch

from kennel.classifier.config import TrainConfig
from kennel.classifier.folder import scan
from kennel.classifier.loader import (
    BalancedSampler,
    EpochSampler,
    TrainingImages,
    evaluation_loader,
    random_box,
    sampler_for,
    training_loader,
)
from kennel.classifier.preprocess import Preprocessing, evaluation_tensor

SMALL = Preprocessing(36, 32)


def epochs(
    photos: Path, *, workers: int, seed: int = 0, augment: str = "none", hflip: float = 0.5, sampling: str = "shuffled"
) -> list[torch.Tensor]:
    folder = scan(photos)
    sampler = sampler_for([sample.target for sample in folder.samples], TrainConfig(seed=seed, sampling=sampling))
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=seed, augment=augment, hflip=hflip)
    loader = training_loader(views, sampler, batch_size=5, workers=workers, pin=False)
    found = []
    for epoch in (1, 2):
        sampler.epoch = epoch
        found.append(torch.cat([images for images, _ in loader]))
    return found


@pytest.mark.parametrize(
    ("augment", "sampling"), [("none", "shuffled"), ("randaugment", "balanced"), ("trivialaugment", "shuffled")]
)
def test_batches_are_the_same_for_any_number_of_workers(photos: Path, augment: str, sampling: str) -> None:
    alone = epochs(photos, workers=0, augment=augment, sampling=sampling)
    shared = epochs(photos, workers=2, augment=augment, sampling=sampling)
    for here, there in zip(alone, shared, strict=True):
        assert torch.equal(here, there)
    assert augment == "none" or not torch.equal(alone[0], epochs(photos, workers=0, sampling=sampling)[0])


def test_mirroring_has_the_probability_that_was_asked_for(photos: Path) -> None:
    never, always, sometimes = (epochs(photos, workers=0, hflip=p)[0] for p in (0.0, 1.0, 0.5))
    assert torch.equal(never.flip(3), always)
    mirrored = [torch.equal(a, b) for a, b in zip(sometimes, always, strict=True)]
    assert 0 < sum(mirrored) < len(mirrored)


def test_every_epoch_and_every_seed_has_its_own_views(photos: Path) -> None:
    first, second = epochs(photos, workers=0)
    assert not torch.equal(first, second)
    assert not torch.equal(first, epochs(photos, workers=0, seed=1)[0])


def test_an_epoch_visits_every_image_once() -> None:
    sampler = EpochSampler(10, seed=3)
    assert sorted(index for _, index in sampler) == list(range(10))


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_goes_on_in_its_middle_has_the_remaining_batches(
    photos: Path, sampling: str, workers: int
) -> None:
    folder = scan(photos)
    config = TrainConfig(sampling=sampling)
    sampler = sampler_for([sample.target for sample in folder.samples], config)
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=0)
    loader = training_loader(views, sampler, batch_size=5, workers=workers, pin=False)
    sampler.epoch = 3
    whole = list(loader)
    sampler.skip = 5
    rest = list(loader)
    assert [len(targets) for _, targets in whole] == [5, 5, 2]
    assert len(sampler) == 12
    assert len(loader) == 3
    for (images, targets), (expected, wanted) in zip(rest, whole[1:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(targets, wanted)


def test_balanced_draws_show_every_class_equally_often() -> None:
    targets = [0] * 90 + [1] * 10
    sampler = BalancedSampler(targets, seed=0)
    drawn = []
    for sampler.epoch in range(50):
        drawn += [targets[index] for _, index, _ in sampler]
    assert len(drawn) == 5_000
    assert abs(sum(drawn) / 5_000 - 0.5) < 5 * 0.5 / 5_000**0.5  # five standard deviations


def test_balanced_draws_depend_on_seed_and_epoch_alone() -> None:
    targets = [0] * 9 + [1] * 3
    one, same, other = BalancedSampler(targets, 1), BalancedSampler(targets, 1), BalancedSampler(targets, 2)
    assert list(one) == list(same) != list(other)
    same.epoch = 1
    assert [key[1:] for key in one] != [key[1:] for key in same]


def test_an_image_that_is_drawn_twice_shows_another_view(photos: Path) -> None:
    keys = list(BalancedSampler([0] * 11 + [1], seed=0))
    assert len(set(keys)) == len(keys)
    assert len({index for _, index, _ in keys}) < len(keys)
    views = TrainingImages(scan(photos), SMALL, min_crop_area=0.25, seed=0)
    assert not torch.equal(views[1, 4, 0][0], views[1, 4, 1][0])


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
