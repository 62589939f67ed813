"""The moving average of the weights, which often generalises better than the last weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kennel.contract.hyperparameters import TrainConfig

_Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def ema_for(model: nn.Module, config: TrainConfig) -> AveragedModel | None:
    """An exponential moving average of a network's weights and batch statistics, or None with `ema_decay=0`.

    Call `update_parameters(model)` after each update of the weights and judge `.module`, which is in evaluation
    mode. `state_dict()` holds everything, the count of updates included.

    Args:
        model: the bare network on its device. It is copied, so register hooks afterwards.
        config: `ema_decay`.
    """
    if config.ema_decay == 0:
        return None
    average = AveragedModel(model, multi_avg_fn=_averaging(config.ema_decay), use_buffers=True)
    return average.eval().requires_grad_(False)


def decay_at(updates: int, decay: float) -> float:
    """The decay after this many updates: min(decay, (1 + t) / (10 + t)).

    The first weights are soon forgotten, as in TensorFlow's `tf.train.ExponentialMovingAverage` with `num_updates`.
    """
    return min(decay, (1 + updates) / (10 + updates))


def _averaging(decay: float) -> Callable[[_Tensors, _Tensors, torch.Tensor | int], None]:
    def average(averages: _Tensors, current: _Tensors, updates: torch.Tensor | int) -> None:
        if not averages[0].is_floating_point():  # counters of batches: the mean of two is not a count
            for mine, theirs in zip(averages, current, strict=True):
                mine.copy_(theirs)
            return
        step = get_ema_multi_avg_fn(decay_at(int(updates), decay))  # type: ignore[no-untyped-call]
        step(averages, current, updates)

    return average
