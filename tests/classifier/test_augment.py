import dataclasses

import pytest
import torch

from kennel.classifier.data.augment import Mixing, augment, mixing_for
from kennel.contract.hyperparameters import TrainConfig

pytestmark = pytest.mark.pure


def photo(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, 32, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def batch(size: int = 6, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are their own number everywhere, so that a pixel tells which image it is from."""
    numbers = torch.arange(size, dtype=torch.float32)
    return numbers.view(-1, 1, 1, 1).expand(size, 3, side, side).contiguous(), torch.arange(size) % 3


def mixing(**changes: float) -> Mixing:
    found = mixing_for(dataclasses.replace(TrainConfig(), **changes), num_classes=3)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment"])
def test_an_augmentation_depends_on_its_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = [augment(photo(), name, seed) for seed in range(20)]
    torch.manual_seed(2)
    torch.rand(7)
    again = [augment(photo(), name, seed) for seed in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({bytes(image.numpy().tobytes()) for image in first}) > 10
    assert {(image.dtype, image.shape) for image in first} == {(torch.uint8, photo().shape)}


@pytest.mark.parametrize("name", ["none", "randaugment", "trivialaugment"])
def test_an_augmentation_leaves_the_image_and_the_random_state_as_they_were(name: str) -> None:
    image, state = photo(), torch.get_rng_state()
    augment(image, name, 3)
    assert torch.equal(image, photo())
    assert torch.equal(torch.get_rng_state(), state)


def test_none_is_the_image_itself() -> None:
    image = photo()
    assert augment(image, "none", 0) is image


def test_mixup_blends_images_and_targets_by_the_same_share() -> None:
    inputs, targets = batch()
    mixed, soft = mixing(mixup=0.4)(inputs, targets, 0)
    # image 1 and its neighbour 0 blend to share * 1 + (1 - share) * 0
    share = mixed[1, 0, 0, 0].item()
    assert 0 < share < 1
    expected = share * inputs + (1 - share) * inputs.roll(1, 0)
    torch.testing.assert_close(mixed, expected)
    one_hot = torch.nn.functional.one_hot(targets, 3).float()
    torch.testing.assert_close(soft, share * one_hot + (1 - share) * one_hot.roll(1, 0))


def test_cutmix_weighs_targets_by_the_area_of_the_patch() -> None:
    inputs, targets = batch()
    patches = 0
    for step in range(20):
        mixed, soft = mixing(cutmix=1.0)(inputs, targets, step)
        own = (mixed[1] == 1).float().mean().item()
        assert ((mixed[1] == 1) | (mixed[1] == 0)).all()
        assert soft[1].tolist() == pytest.approx([1 - own, own, 0.0], abs=1e-6)
        patches += 0 < own < 1
    assert patches > 10


def test_soft_targets_are_probabilities_and_inputs_are_not_changed() -> None:
    inputs, targets = batch()
    for step in range(10):
        mixed, soft = mixing(mixup=0.2, cutmix=1.0)(inputs, targets, step)
        assert (mixed.dtype, mixed.shape, soft.dtype, soft.shape) == (
            torch.float32,
            inputs.shape,
            torch.float32,
            (6, 3),
        )
        torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert torch.equal(inputs, batch()[0])
    assert torch.equal(targets, batch()[1])


def test_a_resumed_run_repeats_the_mixing_of_a_step() -> None:
    inputs, targets = batch()
    whole = [mixing(mixup=0.2, cutmix=1.0)(inputs, targets, step)[0] for step in range(10)]
    torch.rand(5)
    state = torch.get_rng_state()
    resumed = [mixing(mixup=0.2, cutmix=1.0)(inputs, targets, step)[0] for step in range(6, 10)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(whole[6:], resumed, strict=True))
    assert len({image.numpy().tobytes() for image in whole}) > 5
    other = mixing(mixup=0.2, cutmix=1.0, seed=1)(inputs, targets, 0)[0]
    assert not torch.equal(whole[0], other)


def test_with_both_each_has_its_turn() -> None:
    inputs, targets = batch()
    both = mixing(mixup=0.4, cutmix=1.0)
    blended = [bool((both(inputs, targets, step)[0][1].frac() > 0).any()) for step in range(40)]
    assert 8 < sum(blended) < 32


def test_a_batch_of_one_image_stays_itself() -> None:
    inputs, targets = batch(1)
    mixed, soft = mixing(mixup=1.0)(inputs + 1, targets, 0)
    torch.testing.assert_close(mixed, inputs + 1)
    torch.testing.assert_close(soft, torch.tensor([[1.0, 0.0, 0.0]]))


def test_without_mixup_and_cutmix_nothing_is_mixed() -> None:
    assert mixing_for(TrainConfig(), 3) is None
