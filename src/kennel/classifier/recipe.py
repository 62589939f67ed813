"""How weights are updated: optimizer and the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from kennel.classifier.config import TrainConfig


def optimizer_for(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The update rule over all trainable parameters; biases and norms (one dimension) do not decay."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, lr=config.lr)


def scheduler_for(
    optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over `warmup_epochs`, then constant or half a cosine down to zero at the last step."""
    total = config.epochs * steps_per_epoch
    warmup = min(total - 1, round(config.warmup_epochs * steps_per_epoch))
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, warmup, total, config.schedule))


def lr_factor(step: int, warmup: int, total: int, schedule: str) -> float:
    """The share of the peak learning rate at a step, counted from 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def count_trainable(parameters: Iterable[nn.Parameter]) -> int:
    """Number of weights that training may change."""
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
