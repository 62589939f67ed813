"""torch's optimizers, without torch's compiler.

An optimizer imports the compiler (see data/compiler.py) when it is made and in each step, to mark what must not be
compiled. Kennel compiles the network and never the update, so that nothing has to be marked: the methods here are
torch's own, without the marks, which are the functions that its decorators wrap.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class _Unmarked(Optimizer):
    """Goes before one of torch's optimizers among the bases of a class."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        return inspect.unwrap(super().step)(self, closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        Optimizer.zero_grad.__wrapped__(self, set_to_none)  # type: ignore[attr-defined]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        Optimizer.add_param_group.__wrapped__(self, param_group)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return Optimizer.state_dict.__wrapped__(self)  # type: ignore[attr-defined, no-any-return]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        Optimizer.load_state_dict.__wrapped__(self, state_dict)  # type: ignore[attr-defined]


class SGD(_Unmarked, torch.optim.SGD):
    """Stochastic gradient descent with momentum."""


class AdamW(_Unmarked, torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
