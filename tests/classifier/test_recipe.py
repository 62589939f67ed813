import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn

from kennel.classifier.network.ema import decay_at, ema_for
from kennel.classifier.network.recipe import (
    accumulation,
    balanced_class_weights,
    class_counts,
    loss_for,
    optimizer_for,
    out_of_patience,
    scheduler_for,
    updates_per_epoch,
)
from kennel.contract.hyperparameters import TrainConfig

pytestmark = pytest.mark.pure

DEFAULT = TrainConfig()


def config(**changes: object) -> TrainConfig:
    return dataclasses.replace(DEFAULT, **changes)  # type: ignore[arg-type]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


HEAD = frozenset({"4.weight", "4.bias"})


def course(changed: TrainConfig, *, steps_per_epoch: int = 10, lrs: tuple[float, ...] = (1.0,)) -> list[list[float]]:
    """Each group's learning rate at each step."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = scheduler_for(optimizer, changed, steps_per_epoch)
    found = []
    for _ in range(changed.epochs * steps_per_epoch):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return [list(group) for group in zip(*found, strict=True)]


def test_one_learning_rate_gives_a_group_that_decays_and_one_that_does_not() -> None:
    model = network()
    decays, stays = optimizer_for(model, config(lr=0.5, weight_decay=0.1), HEAD).param_groups
    assert [p.ndim for p in decays["params"]] == [4, 2]
    assert [p.ndim for p in stays["params"]] == [1, 1, 1, 1]
    assert (decays["lr"], decays["weight_decay"], stays["lr"], stays["weight_decay"]) == (0.5, 0.1, 0.5, 0.0)


@pytest.mark.parametrize("rule", ["adamw", "sgd"])
def test_the_backbone_learns_at_its_share_of_the_learning_rate(rule: str) -> None:
    model = network()
    changed = config(optimizer=rule, lr=0.5, weight_decay=0.1, backbone_lr_factor=0.1)
    optimizer = optimizer_for(model, changed, HEAD)
    of = {p: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert {name: of[p] for name, p in model.named_parameters()} == {
        "0.weight": (0.05, 0.1), "0.bias": (0.05, 0.0), "1.weight": (0.05, 0.0), "1.bias": (0.05, 0.0),
        "4.weight": (0.5, 0.1), "4.bias": (0.5, 0.0),
    }  # fmt: skip
    scheduler_for(optimizer, dataclasses.replace(changed, schedule="constant"), 10)
    first = 1 / 6  # of five steps of warm-up
    assert {g["lr"] for g in optimizer.param_groups} == {0.05 * first, 0.5 * first}


def test_the_head_of_the_architecture_is_known_by_itself() -> None:
    from kennel.classifier.network.model import build

    model = build("resnet18", 2)
    groups = optimizer_for(model, config(backbone_lr_factor=0.1)).param_groups
    assert [p is model.fc.weight for g in groups if g["lr"] == DEFAULT.lr for p in g["params"]] == [True, False]


def test_frozen_parameters_are_left_out() -> None:
    model = network()
    model[0].requires_grad_(False)
    groups = optimizer_for(model, config(backbone_lr_factor=0.5), HEAD).param_groups
    assert sum(len(g["params"]) for g in groups) == 4


def test_cosine_rises_in_a_line_and_falls_to_zero_after_the_last_step() -> None:
    (lrs,) = course(config(epochs=2, warmup_epochs=0.4), steps_per_epoch=10)
    assert lrs[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert lrs[4] == 1.0
    assert lrs[12] == pytest.approx(0.5)  # half of the 16 steps after warm-up
    assert lrs[19] == pytest.approx(0.5 * (1 + math.cos(math.pi * 15 / 16)))


def test_step_reduces_every_so_many_epochs() -> None:
    (lrs,) = course(config(schedule="step", epochs=5, step_epochs=2, step_factor=0.5, warmup_epochs=0.1))
    assert lrs[0] == 0.5  # one step of warm-up
    assert lrs[1:20] == [1.0] * 19
    assert lrs[20:40] == [0.5] * 20
    assert lrs[40:] == [0.25] * 10


@pytest.mark.parametrize(("epochs", "steps"), [(10, 10), (3, 7), (1, 5)])
def test_onecycle_is_torchs_own(epochs: int, steps: int) -> None:
    (lrs,) = course(config(schedule="onecycle", epochs=epochs), steps_per_epoch=steps)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=epochs * steps, cycle_momentum=False
    )
    for step, lr in enumerate(lrs):
        assert lr == pytest.approx(theirs.get_last_lr()[0]), step
        optimizer.step()
        if step + 1 < len(lrs):
            theirs.step()


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "step", "constant"])
def test_every_schedule_keeps_the_ratio_of_the_groups_and_lives_through_one_step(schedule: str) -> None:
    backbone, head = course(config(schedule=schedule, epochs=3, step_epochs=1), lrs=(0.1, 1.0))
    assert backbone == pytest.approx([0.1 * lr for lr in head])
    assert course(config(schedule=schedule, epochs=1), steps_per_epoch=1)[0][0] > 0


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "step", "constant"])
def test_a_schedule_resumes_from_its_state(schedule: str) -> None:
    changed = config(schedule=schedule, epochs=4, step_epochs=1, lr=1.0)
    whole = course(changed)[0]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = scheduler_for(optimizer, changed, 10)
    for _ in range(17):
        optimizer.step()
        scheduler.step()
    state, weights = scheduler.state_dict(), optimizer.state_dict()
    again = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    resumed = scheduler_for(again, changed, 10)
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    for step in range(17, 40):
        assert again.param_groups[0]["lr"] == whole[step]
        again.step()
        resumed.step()


def test_balanced_weights_are_n_over_k_times_the_classs_count() -> None:
    assert class_counts([0, 2, 0, 0], 3) == [3, 0, 1]
    assert balanced_class_weights([6, 2]).tolist() == pytest.approx([8 / 12, 8 / 4])
    with pytest.raises(ValueError, match="Every class needs an image"):
        balanced_class_weights([3, 0])


def test_the_loss_weighs_rare_classes_and_smooths() -> None:
    logits, targets = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    a, b = (math.log(1 + math.exp(-2.0)), math.log(1 + math.exp(1.0)))  # -log p of the two true classes
    assert loss_for(DEFAULT, [6, 2])(logits, targets).item() == pytest.approx((a + b) / 2)
    w0, w1 = 8 / 12, 8 / 4
    weighed = loss_for(config(class_weights="balanced"), [6, 2])(logits, targets).item()
    assert weighed == pytest.approx((w0 * a + w1 * b) / (w0 + w1))
    # smoothing s keeps 1 - s/2 of two classes' mass on the true one; the other's -log p is a + 2 and b - 1
    smoothed = loss_for(config(label_smoothing=0.2), [6, 2])(logits, targets).item()
    assert smoothed == pytest.approx((0.9 * a + 0.1 * (a + 2) + 0.9 * b + 0.1 * (b - 1)) / 2)


def test_the_last_update_of_an_epoch_averages_what_is_left() -> None:
    sizes = [8, 8, 8, 8, 3]
    assert [accumulation(batch, sizes, 2) for batch in range(5)] == [
        (16, False),
        (16, True),
        (16, False),
        (16, True),
        (3, True),
    ]
    assert accumulation(3, [8, 8, 8, 3], 2) == (11, True)  # every image weighs the same, also those of a small batch
    assert updates_per_epoch(5, 2) == 3
    assert [accumulation(batch, [8, 3], 1) for batch in range(2)] == [(8, True), (3, True)]
    for batches, size in itertools.product(range(1, 8), range(1, 5)):
        updates = sum(last for _, last in (accumulation(batch, [4] * batches, size) for batch in range(batches)))
        assert updates == updates_per_epoch(batches, size)


def test_patience_counts_epochs_since_the_best() -> None:
    assert [out_of_patience(epoch, 3, 2) for epoch in (3, 4, 5)] == [False, False, True]
    assert not out_of_patience(100, 1, 0)


def test_the_average_follows_the_formula_with_its_warm_up() -> None:
    assert [decay_at(t, 0.9) for t in (0, 1, 90)] == pytest.approx([0.1, 2 / 11, 0.9])
    model = network()
    average = ema_for(model, config(ema_decay=0.3))
    assert average is not None
    expected = None
    for t in range(6):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model.train()(torch.randn(4, 3, 8, 8))  # moves the batch statistics
        average.update_parameters(model)
        weight, mean = model[0].weight.detach().clone(), model[1].running_mean.clone()
        if expected is None:
            expected = (weight, mean)  # the first update copies
            continue
        decay = min(0.3, (1 + t) / (10 + t))
        expected = tuple(decay * old + (1 - decay) * new for old, new in zip(expected, (weight, mean), strict=True))
    assert expected is not None
    torch.testing.assert_close(average.module[0].weight, expected[0])
    torch.testing.assert_close(average.module[1].running_mean, expected[1])
    assert average.module[1].num_batches_tracked == model[1].num_batches_tracked == 6


def test_an_average_resumes_to_the_bit_from_its_state() -> None:
    def update(model: nn.Module, average: torch.optim.swa_utils.AveragedModel, times: int) -> None:
        for _ in range(times):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.1)
            average.update_parameters(model)

    model, whole = network(), ema_for(network(), config(ema_decay=0.9))
    assert whole is not None
    update(model, whole, 3)
    saved = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    model_saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    update(model, whole, 4)
    resumed_model, resumed = network(), ema_for(network(), config(ema_decay=0.9))
    assert resumed is not None
    resumed_model.load_state_dict(model_saved)
    resumed.load_state_dict(saved)
    update(resumed_model, resumed, 4)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_no_decay_means_no_average_and_an_average_is_never_trained() -> None:
    assert ema_for(network(), DEFAULT) is None
    average = ema_for(network(), config(ema_decay=0.9))
    assert average is not None
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
