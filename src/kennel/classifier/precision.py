"""The arithmetic and the memory layout of training: what was asked for, or what a short measurement finds fastest.

Half precision pays on tensor cores and on CPUs with AMX or AVX512-BF16 and costs on others; channels_last pays for
convolutions and seldom for transformers. Which of them a machine and a network like is quicker measured than known.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from kennel.classifier.config import TrainConfig
from kennel.classifier.errors import ConfigError
from kennel.classifier.model import set_training_mode

MARGIN = 1.10  # a candidate must be this much faster than the plain one; less is the noise of a shared machine
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_STEP_S = 0.15  # images are left out until a step takes about this long
_BUDGET_S = 1.5  # no new round of all candidates after this; a first one is always finished
_ROUNDS = 10


@dataclass(frozen=True)
class Precision:
    """A choice with its reason. Weights, optimizer and loss stay float32 in each."""

    name: str  # fp32, bf16 or fp16
    channels_last: bool
    device_type: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """What convolutions and matrix products compute in."""
        return _DTYPES[self.name]

    def autocast(self) -> AbstractContextManager[object]:
        """Around the forward pass and the loss; does nothing with fp32."""
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss so that small gradients survive fp16; passes all through with fp32 and bf16."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")

    def arrange(self, images: torch.Tensor) -> torch.Tensor:
        """Images of shape (N, 3, H, W) in the chosen memory layout."""
        return images.contiguous(memory_format=self._layout())

    def place(self, model: nn.Module) -> nn.Module:
        """Put the network's weights into the chosen memory layout, in place; their values do not change."""
        if self.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types leave it out
        return model

    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        return f"{self.name}, {'channels_last' if self.channels_last else 'contiguous'} ({self.reason})"


def half_precisions(device: torch.device) -> tuple[str, ...]:
    """What the hardware computes by itself, of bf16 and fp16, the better first: bf16 needs no loss scaling.

    On a CPU bf16 means AVX512-BF16 or AMX; elsewhere it is emulated and slow. GPUs have it since compute capability 8.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "fp16") if native else ("fp16",)
    has = torch.cpu.get_capabilities()
    return ("bf16",) if has.get("avx512_bf16") or has.get("amx_bf16") else ()


def choose(
    model: nn.Module,
    images: torch.Tensor,
    config: TrainConfig,
    device: torch.device,
    *,
    available: tuple[str, ...] | None = None,
    speeds_of: Callable[[nn.Module, torch.Tensor, list[Precision]], list[float]] | None = None,
) -> Precision:
    """The hyperparameters `precision` and `channels_last`, where `auto` is the fastest by measurement.

    A copy of the network does a few forward and backward passes in each candidate; the fastest is taken if it is at
    least 10 % faster than the plainest. The network, its gradients and all random states stay untouched. About 2 s;
    more where eight steps with two images take longer. A measurement may end differently on another day: a resumed run
    takes the choice of its checkpoint instead.

    Args:
        model: the network on `device`, frozen as it will be trained, without hooks.
        images: normalised, float32, shape (N, 3, H, W); of a large batch only as many as are needed are used.
        config: `precision` and `channels_last`.
        device: where training will run.
        available: half precisions of the hardware; None asks it.
        speeds_of: measures the candidates in images/s; None: `measure`.

    Raises:
        ConfigError: the hardware does not compute in the precision that was asked for.
    """
    available = half_precisions(device) if available is None else available
    if config.precision not in ("auto", "fp32", *available):
        raise ConfigError([_refusal(config.precision, device)])
    candidates = _candidates(config, available, device)
    if len(candidates) == 1:
        return candidates[0]
    speeds = (speeds_of or measure)(model, images.to(device), candidates)
    best = max(range(len(candidates)), key=speeds.__getitem__)
    found = best if speeds[best] >= MARGIN * speeds[0] else 0
    rates = ", ".join(f"{_short(c)} {speed:.3g}" for c, speed in zip(candidates, speeds, strict=True))
    why = "the fastest" if found else f"no other is {MARGIN - 1:.0%} faster"
    return replace(candidates[found], reason=f"{why}; measured images/s: {rates}")


def _candidates(config: TrainConfig, available: tuple[str, ...], device: torch.device) -> list[Precision]:
    """What the configuration leaves open, the plainest first."""
    names = ("fp32", *available[:1]) if config.precision == "auto" else (config.precision,)
    layouts = {"auto": (False, True), "on": (True,), "off": (False,)}[config.channels_last]
    pairs = [(name, layout) for name in names for layout in layouts]
    if len(pairs) == 4:  # half precision with the slower layout is not worth its share of the time
        pairs.pop(2)
    reason = "as given" if config.precision != "auto" else "this hardware has no half precision to choose"
    return [Precision(name, layout, device.type, reason) for name, layout in pairs]


def _refusal(name: str, device: torch.device) -> str:
    needs = {
        "bf16": "a GPU of compute capability 8 or a CPU with AVX512-BF16 or AMX",
        "fp16": "a CUDA GPU",
    }[name]
    return f"precision is '{name}', but this {device.type} does not compute in it: it needs {needs}. Use auto or fp32."


def _short(candidate: Precision) -> str:
    return f"{candidate.name}{'+channels_last' if candidate.channels_last else ''}"


def measure(model: nn.Module, images: torch.Tensor, candidates: list[Precision]) -> list[float]:
    """Images a second of the best of several training steps without the optimizer, for each candidate.

    The candidates take turns, so that a slow moment of the machine meets all of them.
    """
    cuda = [images.get_device()] if images.is_cuda else []
    started = time.perf_counter()
    with torch.random.fork_rng(devices=cuda):
        copies: dict[bool, nn.Module] = {}
        for candidate in candidates:
            if candidate.channels_last not in copies:
                copies[candidate.channels_last] = candidate.place(copy.deepcopy(model))
        for network in copies.values():
            set_training_mode(network)
        steps = [partial(_step_s, copies[candidate.channels_last], candidate) for candidate in candidates]
        images = images if cuda else _as_many_as_fit(steps[0], images)
        for step in steps:
            step(images)  # the first step prepares kernels
        best = [math.inf] * len(steps)
        for _ in range(_ROUNDS):
            best = [min(seconds, step(images)) for seconds, step in zip(best, steps, strict=True)]
            if time.perf_counter() - started > _BUDGET_S:
                break
    return [len(images) / seconds for seconds in best]


def _as_many_as_fit(step: Callable[[torch.Tensor], float], images: torch.Tensor) -> torch.Tensor:
    """Few enough that a step is short; not for a GPU, which a small batch does not fill."""
    step(images[:2])
    each_s = step(images[:2]) / 2
    return images[: max(2, int(_STEP_S / each_s))]


def _step_s(network: nn.Module, candidate: Precision, images: torch.Tensor) -> float:
    scaler = candidate.scaler()
    targets = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    _synchronise(images)
    started = time.perf_counter()
    with candidate.autocast():
        loss = nn.functional.cross_entropy(network(candidate.arrange(images)), targets)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    _synchronise(images)
    seconds = time.perf_counter() - started
    network.zero_grad(set_to_none=True)
    return seconds


def _synchronise(images: torch.Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)  # kernels are only queued when the call returns
