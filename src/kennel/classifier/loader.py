"""From image folders to batches: random views for training, the fixed view for evaluation.

Every random choice depends only on (seed, epoch, image), never on a worker's state, so the batches of an epoch are
the same for any number of workers and after any restart.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from kennel.classifier.augment import augment
from kennel.classifier.config import TrainConfig
from kennel.classifier.folder import ImageFolder
from kennel.classifier.preprocess import (
    Box,
    Preprocessing,
    crop_to_tensor,
    evaluation_tensor,
    read_header,
    upright_size,
)

Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 (N, 3, H, W) and int64 (N,)
Key = tuple[int, ...]  # (epoch, image) or (epoch, image, number of the view)

_RATIO = (3 / 4, 4 / 3)  # Szegedy et al. 2014, "Going deeper with convolutions", section 6: the usual random crop


class TrainingImages(Dataset[tuple[torch.Tensor, int]]):
    """A random view of an image: crop, mirror, augmentation.

    Indexed by (epoch, position in the folder), or by these and a number that tells the views of one epoch apart.
    """

    def __init__(
        self,
        folder: ImageFolder,
        preprocessing: Preprocessing,
        *,
        min_crop_area: float,
        seed: int,
        hflip: float = 0.5,
        augment: str = "none",
    ) -> None:
        self._folder, self._preprocessing = folder, preprocessing
        self._min_crop_area, self._seed = min_crop_area, seed
        self._hflip, self._augment = hflip, augment

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        sample = self._folder.samples[key[1]]
        rng = np.random.default_rng((self._seed, *key))
        with read_header(sample.path) as image:
            view = crop_to_tensor(image, random_box(upright_size(image), self._min_crop_area, rng), self._preprocessing)
        view = view.flip(2) if rng.random() < self._hflip else view
        return augment(view, self._augment, int(rng.integers(2**63))), sample.target


class EvaluationImages(Dataset[tuple[torch.Tensor, int]]):
    """The centre crop of an image, exactly as serving cuts it."""

    def __init__(self, folder: ImageFolder, preprocessing: Preprocessing) -> None:
        self._folder, self._preprocessing = folder, preprocessing

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = self._folder.samples[index]
        return evaluation_tensor(sample.path, self._preprocessing), sample.target


class EpochSampler(Sampler[Key]):
    """A new order of all images for each epoch, from the seed and the epoch's number alone.

    `skip` images at the start of the epoch are left out: how a stopped run goes on in the middle of an epoch. Give
    it whole batches, and set it back to 0 for the next epoch. The length stays that of the whole epoch.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, seed
        self.epoch = 0
        self.skip = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys(np.random.default_rng((self._seed, self.epoch)))[self.skip :])

    def keys(self, rng: np.random.Generator) -> list[Key]:
        """All images of an epoch in their order."""
        return [(self.epoch, int(index)) for index in rng.permutation(self._size)]


class BalancedSampler(EpochSampler):
    """As many images as there are, drawn with replacement so that every class is equally likely.

    An image that is drawn again in an epoch shows another view.
    """

    def __init__(self, targets: Sequence[int], seed: int) -> None:
        super().__init__(len(targets), seed)
        counts = np.bincount(np.asarray(targets))
        self._probabilities = 1.0 / (np.count_nonzero(counts) * counts[np.asarray(targets)])

    def keys(self, rng: np.random.Generator) -> list[Key]:
        """All draws of an epoch in their order, each with the number of earlier draws of the same image."""
        drawn = rng.choice(self._size, self._size, p=self._probabilities).tolist()
        seen: Counter[int] = Counter()
        keys: list[Key] = []
        for index in drawn:
            keys.append((self.epoch, index, seen[index]))
            seen[index] += 1
        return keys


def sampler_for(targets: Sequence[int], config: TrainConfig) -> EpochSampler:
    """The order of the training images by the hyperparameter `sampling`.

    Args:
        targets: the class of every image, in the folder's order.
        config: `sampling` and `seed`.
    """
    if config.sampling == "balanced":
        return BalancedSampler(targets, config.seed)
    return EpochSampler(len(targets), config.seed)


def random_box(size: tuple[int, int], min_area: float, rng: np.random.Generator) -> Box:
    """A random part of an image: `min_area` to all of its area, 3:4 to 4:3, as torchvision's RandomResizedCrop."""
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(min_area, 1.0)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, upper = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return (left, upper, left + w, upper + h)
    side = min(width, height)
    left, upper = (width - side) / 2, (height - side) / 2
    return (left, upper, left + side, upper + side)


def default_workers(device: torch.device) -> tuple[int, str]:
    """Loader processes and the reason for that number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    if device.type == "cuda":
        return min(cores, 16), f"{cores} cores feed a GPU"
    return max(1, cores // 4), f"{cores} cores also compute the steps"


def training_loader(
    images: TrainingImages, sampler: EpochSampler, *, batch_size: int, workers: int, pin: bool
) -> DataLoader[Batch]:
    """Batches of random views. Set the sampler's `epoch` before each pass.

    A last batch of one image is left out: batch normalisation cannot take the variance of a single value.
    """
    size = len(sampler)
    return DataLoader(
        images,  # type: ignore[arg-type]  # the loader's type is its batch
        batch_size=min(batch_size, size),
        sampler=sampler,
        drop_last=size % batch_size == 1 and size > 1,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
    )


def evaluation_loader(
    folder: ImageFolder, preprocessing: Preprocessing, *, batch_size: int, workers: int, pin: bool
) -> DataLoader[Batch]:
    """Batches of centre crops in the folder's order."""
    return DataLoader(
        EvaluationImages(folder, preprocessing),  # type: ignore[arg-type]  # the loader's type is its batch
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
    )
