"""The arithmetic and the memory layout of training: what was asked for, or what a short measurement finds fastest.

Half precision pays on tensor cores and on CPUs with AMX or AVX512-BF16 and costs on others; channels_last pays for
convolutions and seldom for transformers. Which of them a machine and a network like is quicker measured than known.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from kennel.classifier.network.model import set_training_mode
from kennel.contract.errors import ConfigError
from kennel.contract.hyperparameters import TrainConfig

MARGIN = 1.10  # a candidate must be this much faster than the plain one; less is the noise of a shared machine
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SLOW = 2.0  # a candidate that takes this many times as long as the best so far is dropped: it cannot win
_PREPARING_S = 0.5  # what a first step may take on top of that, for kernels that are prepared once
_FEW = 2  # images of the first steps on a CPU; a batch norm refuses a single one
_STEP_S = 0.15  # more images are taken as long as a step stays about this short
_LIMIT_S = 2.0  # no further step after this, when each candidate has had its first two
_ROUNDS = 10

Step = Callable[[torch.Tensor], float]  # a training step with these images, on a copy of the network: its seconds
Steps = Callable[[nn.Module, list["Precision"]], list[Step]]


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
    steps_of: Steps | None = None,
) -> Precision:
    """The hyperparameters `precision` and `channels_last`, where `auto` is the fastest by measurement.

    A copy of the network does a few forward and backward passes in each candidate; the fastest is taken if it is at
    least 10 % faster than the plainest. The network, its gradients and all random states stay untouched. A measurement
    may end differently on another day: a resumed run takes the choice of its checkpoint instead.

    It takes about 2 s, and on a slow machine no more than two steps of each candidate, on a CPU with two images each.
    A GPU gets the whole batch: what does not fit into its memory is out, and when nothing fits, half as many images
    are tried until something does.

    Args:
        model: the network on `device`, frozen as it will be trained, without hooks.
        images: normalised, float32, shape (N, 3, H, W): a whole batch, of which a CPU uses as many as are needed.
        config: `precision` and `channels_last`.
        device: where training will run.
        available: half precisions of the hardware; None asks it.
        steps_of: makes the steps that are timed, one for each candidate; None: `training_steps`.

    Raises:
        ConfigError: the hardware does not compute in the precision that was asked for.
    """
    available = half_precisions(device) if available is None else available
    if config.precision not in ("auto", "fp32", *available):
        raise ConfigError([_refusal(config.precision, device)])
    candidates = _candidates(config, available, device)
    if len(candidates) == 1:
        return candidates[0]
    speeds, used = _fitting_speeds(
        lambda: (steps_of or training_steps)(model, candidates), images, fill=device.type == "cuda"
    )
    speeds = speeds or [0.0] * len(candidates)
    best = max(range(len(candidates)), key=speeds.__getitem__)
    found = best if speeds[best] >= MARGIN * speeds[0] else 0
    return replace(candidates[found], reason=_reason(candidates, speeds, found, used, len(images)))


def _reason(candidates: list[Precision], speeds: list[float], found: int, used: int, wanted: int) -> str:
    if not any(speeds):
        return f"not measured: not even {used} images fit into memory"
    if not speeds[0]:
        why = f"the fastest that fits into memory, as {_short(candidates[0])} does not"
    else:
        why = "the fastest" if found else f"no other is {MARGIN - 1:.0%} faster"
    fewer = f" with {used} images, as {wanted} did not fit into memory" if used < wanted else ""
    rates = ", ".join(
        f"{_short(candidate)} {f'{speed:.3g}' if speed else 'out of memory'}"
        for candidate, speed in zip(candidates, speeds, strict=True)
    )
    return f"{why}; measured images/s{fewer}: {rates}"


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


def _fitting_speeds(
    make_steps: Callable[[], list[Step]], images: torch.Tensor, *, fill: bool
) -> tuple[list[float], int]:
    """Speeds with as many images as at least one candidate has memory for, and how many these are; else no speeds."""
    while True:
        speeds = _speeds(make_steps, images, fill=fill)
        torch.cuda.empty_cache()  # torch would keep it in pieces cut for the candidates; does nothing without a GPU
        if any(speeds):
            return speeds, len(images)
        if len(images) <= _FEW:
            return [], len(images)
        images = images[: max(_FEW, len(images) // 2)]


def _speeds(make_steps: Callable[[], list[Step]], images: torch.Tensor, *, fill: bool) -> list[float]:
    try:
        steps = make_steps()
    except torch.OutOfMemoryError:  # there is no room for the copies
        return []
    return measure(steps, images, fill=fill)


def training_steps(model: nn.Module, candidates: list[Precision]) -> list[Step]:
    """Steps without the optimizer, on copies of the network: one copy for each memory layout among the candidates."""
    copies: dict[bool, nn.Module] = {}
    for candidate in candidates:
        if candidate.channels_last not in copies:
            copies[candidate.channels_last] = candidate.place(copy.deepcopy(model))
    for network in copies.values():
        set_training_mode(network)
    return [partial(_step_s, copies[candidate.channels_last], candidate) for candidate in candidates]


def measure(steps: Sequence[Step], images: torch.Tensor, *, fill: bool = False) -> list[float]:
    """Images a second of the best of several steps of each candidate; 0 for one that runs out of memory.

    Each has a first step, which prepares kernels, and a second one. After that they take turns, so that a slow moment
    of the machine meets all of them, until the steps have taken `_LIMIT_S` together.

    Args:
        steps: one for each candidate, the plainest first.
        images: a whole batch.
        fill: take all images at once, as a few do not fill a GPU; otherwise two, and more where steps are short.
    """
    race = _Race(steps)
    few = images if fill else images[:_FEW]
    for lane in [0, *range(len(steps) - 1, 0, -1)]:  # half precision second: the sooner others fall behind, the better
        race.begin(lane, few)
    many = images if fill else images[: race.affordable]
    race.go_on(many, prepare=len(many) > len(few))
    return [1 / seconds for seconds in race.each_s]


class _Race:
    """The steps that may still win, and the shortest time an image of each; lanes are their places in the list."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.running = dict(enumerate(steps))
        self.each_s = [math.inf] * len(steps)  # infinite: not measured, or out of memory
        self.spent_s = 0.0

    @property
    def is_over(self) -> bool:
        return self.spent_s > _LIMIT_S or len(self.running) < 2

    @property
    def affordable(self) -> int:
        """With how many images the slowest of those left takes `_STEP_S`."""
        each_s = max((self.each_s[lane] for lane in self.running), default=math.inf)
        return max(_FEW, int(_STEP_S / each_s))

    def begin(self, lane: int, images: torch.Tensor) -> None:
        """The first two steps of a candidate, or one where that tells enough."""
        first_s = self._step(lane, images)
        if lane not in self.running:
            return
        hopeless = (first_s - _PREPARING_S) / len(images) > _SLOW * min(self.each_s)
        self.each_s[lane] = (first_s if hopeless else self._step(lane, images)) / len(images)
        self._drop_slow()

    def go_on(self, images: torch.Tensor, *, prepare: bool) -> None:
        """Turns of all that are left; with `prepare`, a first one that does not count."""
        best_s = {lane: math.inf if prepare else self.each_s[lane] for lane in self.running}
        if prepare:
            self._turn(images)
        for _ in range(_ROUNDS):
            for lane, seconds in self._turn(images).items():
                best_s[lane] = min(best_s[lane], seconds / len(images))
            if all(math.isfinite(best_s[lane]) for lane in self.running):  # times of unlike batches do not compare
                for lane in self.running:
                    self.each_s[lane] = best_s[lane]
                self._drop_slow()

    def _turn(self, images: torch.Tensor) -> dict[int, float]:
        """A step of each that is left, as far as there is time; the seconds by lane."""
        times: dict[int, float] = {}
        for lane in list(self.running):
            if not self.is_over:
                times[lane] = self._step(lane, images)
        return times

    def _step(self, lane: int, images: torch.Tensor) -> float:
        """Seconds of a step; infinite when memory ran out, which ends the race for this candidate."""
        try:
            seconds = self.running[lane](images)
            self.spent_s += seconds
        except torch.OutOfMemoryError:
            self.each_s[lane] = seconds = math.inf
            del self.running[lane]
        return seconds

    def _drop_slow(self) -> None:
        limit_s = _SLOW * min(self.each_s)
        slow = {lane for lane, each_s in enumerate(self.each_s) if limit_s < each_s < math.inf}  # not: yet to begin
        self.running = {lane: step for lane, step in self.running.items() if lane not in slow}


def _step_s(network: nn.Module, candidate: Precision, images: torch.Tensor) -> float:
    """Seconds of a forward and a backward pass; random states are as before, and no gradients stay."""
    images = images.to(candidate.device_type)
    targets = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    scaler = candidate.scaler()
    with torch.random.fork_rng(devices=[images.get_device()] if images.is_cuda else []):
        try:
            _synchronise(images)
            started = time.perf_counter()
            with candidate.autocast():
                loss = nn.functional.cross_entropy(network(candidate.arrange(images)), targets)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            _synchronise(images)
            return time.perf_counter() - started
        finally:
            network.zero_grad(set_to_none=True)


def _synchronise(images: torch.Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)  # kernels are only queued when the call returns
