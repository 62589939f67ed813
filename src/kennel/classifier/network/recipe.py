"""How weights are updated: optimizer, course of the learning rate, loss, accumulation and early stopping."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from kennel.classifier.network.model import head_parameters
from kennel.classifier.network.optimizers import SGD, AdamW
from kennel.contract.hyperparameters import TrainConfig

# Smith and Topin 2017, "Super-Convergence", with the numbers of torch.optim.lr_scheduler.OneCycleLR
_RISE = 0.3  # share of the steps in which the learning rate rises
_FIRST = 1 / 25  # first learning rate, as a share of the peak
_LAST = _FIRST / 1e4


def optimizer_for(model: nn.Module, config: TrainConfig, head: frozenset[str] | None = None) -> torch.optim.Optimizer:
    """The update rule over all trainable parameters.

    Biases and norms (one dimension) do not decay. With `backbone_lr_factor` below 1 all but the head learns at
    that share of `lr` (discriminative learning rates: Howard and Ruder 2018, "ULMFiT", section 3.2, with two groups).

    Args:
        model: the bare network; wrapped by DistributedDataParallel or torch.compile its parameters have other names.
        config: `optimizer`, `lr`, `weight_decay`, `momentum`, `backbone_lr_factor`.
        head: names of the head's parameters; None: those of `config.arch`.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    split = config.backbone_lr_factor != 1.0
    if split and head is None:
        head = head_parameters(config.arch)
    groups = []
    for in_head in (False, True) if split else (True,):
        own = [parameter for name, parameter in named if not split or (name in (head or ())) == in_head]
        lr = config.lr if in_head else config.lr * config.backbone_lr_factor
        groups += [
            {"params": [p for p in own if p.ndim > 1], "lr": lr, "weight_decay": config.weight_decay},
            {"params": [p for p in own if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
        ]
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return AdamW(groups, lr=config.lr)


def scheduler_for(
    optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The course of every group's learning rate; all its state is the number of steps taken.

    Args:
        optimizer: each group's own learning rate is its peak.
        config: `schedule`, `epochs`, `warmup_epochs`, `step_epochs`, `step_factor`.
        steps_per_epoch: updates of the weights in an epoch, see `updates_per_epoch`.
    """
    total = config.epochs * steps_per_epoch
    warmup = min(total - 1, round(config.warmup_epochs * steps_per_epoch))
    every = config.step_epochs * steps_per_epoch

    def factor(step: int) -> float:
        if config.schedule == "onecycle":
            return one_cycle_factor(step, total)
        if config.schedule == "step" and step >= warmup:
            return float(config.step_factor ** (step // every))
        return lr_factor(step, warmup, total, config.schedule)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def lr_factor(step: int, warmup: int, total: int, schedule: str) -> float:
    """The share of the peak learning rate at a step, counted from 0: linear warm-up, then half a cosine or 1."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def one_cycle_factor(step: int, total: int) -> float:
    """The share of the peak in a cycle of half a cosine up over 30 % of `total` steps and half a cosine down."""
    peak = _RISE * total - 1
    if step <= peak:
        return _between(_FIRST, 1.0, step / peak if peak > 0 else 1.0)
    return _between(1.0, _LAST, min(1.0, (step - peak) / (total - 1 - peak)))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def class_counts(targets: Iterable[int], num_classes: int) -> list[int]:
    """Number of images of each class, in class order."""
    found = Counter(targets)
    return [found[target] for target in range(num_classes)]


def balanced_class_weights(counts: Sequence[int]) -> torch.Tensor:
    """Weight n / (k n_c) for each of k classes with n_c of all n images; scikit-learn's `class_weight="balanced"`.

    Returns:
        float32, shape (k,); its mean over all images is 1.

    Raises:
        ValueError: a class has no image.
    """
    if not counts or min(counts) < 1:
        raise ValueError(f"Every class needs an image to be weighed; the counts are {list(counts)}.")
    return torch.tensor([sum(counts) / (len(counts) * count) for count in counts], dtype=torch.float32)


def loss_for(config: TrainConfig, counts: Sequence[int]) -> nn.CrossEntropyLoss:
    """The training loss; move it to the device of the logits.

    Args:
        config: `label_smoothing` and `class_weights`.
        counts: training images of each class, in class order.
    """
    weight = balanced_class_weights(counts) if config.class_weights == "balanced" else None
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=config.label_smoothing)


def updates_per_epoch(batches: int, accumulate_steps: int) -> int:
    """Updates of the weights in an epoch; the last may average fewer batches."""
    return math.ceil(batches / accumulate_steps)


def accumulation(batch: int, sizes: Sequence[int], accumulate_steps: int) -> tuple[int, bool]:
    """What a batch is in its update.

    Args:
        batch: its number in the epoch, from 0.
        sizes: number of images in each batch of the epoch.
        accumulate_steps: batches in an update.

    Returns:
        how many images the update averages, so that each of them weighs the same; and whether this batch is its last.
    """
    first = batch - batch % accumulate_steps
    own = sizes[first : first + accumulate_steps]
    return sum(own), batch == first + len(own) - 1


def out_of_patience(epoch: int, best_epoch: int, patience: int) -> bool:
    """Whether `patience` epochs have passed since the best one; never with patience 0."""
    return 0 < patience <= epoch - best_epoch


def count_trainable(parameters: Iterable[nn.Parameter]) -> int:
    """Number of weights that training may change."""
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
