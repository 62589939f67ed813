from pathlib import Path

import numpy as np
import pytest
import torch

from kennel.classifier.data.folder import scan
from kennel.classifier.data.loader import (
    BalancedOrder,
    EpochBatches,
    Order,
    TrainingImages,
    evaluation_loader,
    order_for,
    random_box,
    training_loader,
)
from kennel.classifier.data.preprocess import Preprocessing, evaluation_tensor
from kennel.contract.errors import PhotoError
from kennel.contract.hyperparameters import TrainConfig

SMALL = Preprocessing(36, 32)


def epochs(
    photos: Path, *, workers: int, seed: int = 0, augment: str = "none", hflip: float = 0.5, sampling: str = "shuffled"
) -> list[torch.Tensor]:
    folder = scan(photos)
    order = order_for([sample.target for sample in folder.samples], TrainConfig(seed=seed, sampling=sampling))
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=seed, augment=augment, hflip=hflip)
    batches = EpochBatches(order, 5)
    loader = training_loader(views, batches, workers=workers, pin=False)
    found = []
    for batches.epoch in (1, 2):
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
    assert sorted(index for _, index in Order(10, seed=3).keys(1)) == list(range(10))


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_goes_on_in_its_middle_has_the_remaining_batches(
    photos: Path, sampling: str, workers: int
) -> None:
    folder = scan(photos)
    config = TrainConfig(sampling=sampling)
    batches = EpochBatches(order_for([sample.target for sample in folder.samples], config), 5)
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=0)
    loader = training_loader(views, batches, workers=workers, pin=False)
    batches.epoch = 3
    whole = list(loader)
    batches.skip = 1
    rest = list(loader)
    assert [len(targets) for _, targets in whole] == [5, 5, 2] == batches.sizes
    assert len(loader) == 3
    for (images, targets), (expected, wanted) in zip(rest, whole[1:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(targets, wanted)


def test_balanced_draws_show_every_class_equally_often() -> None:
    targets = [0] * 90 + [1] * 10
    order = BalancedOrder(targets, seed=0)
    drawn = [targets[index] for epoch in range(50) for _, index, _ in order.keys(epoch)]
    assert len(drawn) == 5_000
    assert abs(sum(drawn) / 5_000 - 0.5) < 5 * 0.5 / 5_000**0.5  # five standard deviations


def test_balanced_draws_depend_on_seed_and_epoch_alone() -> None:
    targets = [0] * 9 + [1] * 3
    one, same, other = BalancedOrder(targets, 1), BalancedOrder(targets, 1), BalancedOrder(targets, 2)
    assert one.keys(1) == same.keys(1) != other.keys(1)
    assert [key[1:] for key in one.keys(1)] != [key[1:] for key in one.keys(2)]


def test_an_image_that_is_drawn_twice_shows_another_view(photos: Path) -> None:
    keys = BalancedOrder([0] * 11 + [1], seed=0).keys(1)
    assert len(set(keys)) == len(keys)
    assert len({index for _, index, _ in keys}) < len(keys)
    views = TrainingImages(scan(photos), SMALL, min_crop_area=0.25, seed=0)
    assert not torch.equal(views[1, 4, 0][0], views[1, 4, 1][0])


def test_a_last_batch_of_one_image_is_left_out(photos: Path) -> None:
    folder = scan(photos)
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=0)
    loader = training_loader(views, EpochBatches(Order(12, 0), 11), workers=0, pin=False)
    assert [len(targets) for _, targets in loader] == [11]


@pytest.mark.parametrize(("images", "batch_size"), [(40, 8), (43, 8), (42, 8), (41, 8), (5, 8), (8, 8)])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_processes_share_the_steps_of_one(images: int, batch_size: int, processes: int) -> None:
    alone = list(EpochBatches(Order(images, 0), batch_size))
    shares = [EpochBatches(Order(images, 0), batch_size, rank=rank, processes=processes) for rank in range(processes)]
    assert len({tuple(share.sizes) for share in shares}) == 1
    for step, own in enumerate(zip(*shares, strict=True)):
        assert sorted(key for keys in own for key in keys) == sorted(alone[step])
        assert sum(map(len, own)) == shares[0].sizes[step]
        assert len(shares[0]) == 1 or min(map(len, own)) >= 2
    assert sum(shares[0].sizes) > images - 2 * processes


def test_every_process_judges_every_nth_batch(photos: Path) -> None:
    folder = scan(photos)

    def judged(rank: int, processes: int) -> list[list[int]]:
        loader = evaluation_loader(folder, SMALL, batch_size=5, workers=0, pin=False, rank=rank, processes=processes)
        return [images.flatten(1).sum(1).tolist() for images, _ in loader]

    alone = judged(0, 1)
    assert len(alone) == 3
    assert judged(0, 2) == alone[::2]
    assert judged(1, 2) == alone[1::2]


def test_evaluation_keeps_the_order_and_the_view_of_serving(photos: Path) -> None:
    folder = scan(photos)
    loader = evaluation_loader(folder, SMALL, batch_size=5, workers=0, pin=False)
    images = torch.cat([images for images, _ in loader])
    assert torch.equal(images[7], evaluation_tensor(folder.samples[7].path, SMALL))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stamped", [False, True])
def test_a_photo_that_is_damaged_meanwhile_is_named_without_a_traceback(
    photos: Path, workers: int, stamped: bool
) -> None:
    folder = scan(photos)
    sick = folder.samples[7].path
    sick.write_bytes(sick.read_bytes()[:700])
    evaluated = evaluation_loader(folder, SMALL, batch_size=5, workers=workers, pin=False, stamped=stamped)
    views = TrainingImages(folder, SMALL, min_crop_area=0.25, seed=0)
    trained = training_loader(views, EpochBatches(Order(12, 0), 5), workers=workers, pin=False, stamped=stamped)
    for loader in (evaluated, trained):
        with pytest.raises(PhotoError) as caught:
            list(loader)
        assert str(caught.value).startswith(f"{sick} could be read when training began, and cannot be now: ")
        assert "Traceback" not in str(caught.value)
        assert "\n" not in str(caught.value)


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
