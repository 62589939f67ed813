"""Augmentation beyond crop and mirror: of single images in the loader, of whole batches on the device.

Every random choice comes from a seed that the caller derives from (seed, epoch, image) or (seed, step), never from a
process's own state, so any number of loader processes and any restart give the same images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from kennel.classifier.data.vision import v2
from kennel.contract.hyperparameters import TrainConfig

_MIXING = 0x6D6978  # keeps the seeds of batches apart from those of images


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block on its own sequence of torch's CPU random numbers; the process's sequence goes on as if it never was.

    `torch.manual_seed` would reseed the GPU as well.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@cache
def _augmentation(name: str) -> nn.Module:
    kinds = {"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide}
    return kinds[name](interpolation=v2.InterpolationMode.BILINEAR)  # type: ignore[no-any-return]


def augment(image: torch.Tensor, name: str, seed: int) -> torch.Tensor:
    """Change an image's colours and shape at random, as torchvision does.

    Args:
        image: uint8, shape (3, H, W).
        name: "none"; "randaugment" (Cubuk et al. 2019: two operations of magnitude 9 of 31); "trivialaugment"
            (Müller and Hutter 2021: one operation of random magnitude, the wide space).
        seed: decides everything.

    Returns:
        uint8 of the same shape; the image itself with "none".
    """
    if name == "none":
        return image
    with seeded(seed):
        return _augmentation(name)(image)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al. 2017) and cutmix (Yun et al. 2019) of whole batches; with both, one of them each time."""

    kinds: tuple[v2.Transform, ...]
    seed: int

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix every image with its neighbour in the batch.

        Args:
            inputs: normalised images, float, shape (N, 3, H, W), on any device; not changed.
            targets: int64, shape (N,), on the same device.
            step: number of the batch since the start of the training; a resumed run repeats what it decides.

        Returns:
            inputs of the same shape, and probabilities of the classes, float32, shape (N, C).
        """
        seed = int(np.random.SeedSequence((_MIXING, self.seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))
        with seeded(seed):
            kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
            mixed, soft = kind(inputs, targets)
        return mixed, soft


def mixing_for(config: TrainConfig, num_classes: int) -> Mixing | None:
    """What `mixup` and `cutmix` ask for; None when both are 0."""
    asked = ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
    kinds = tuple(kind(alpha=alpha, num_classes=num_classes) for kind, alpha in asked if alpha > 0)
    return Mixing(kinds, config.seed) if kinds else None
