"""From image folders to batches: random views for training, the fixed view for evaluation.

Every random choice depends only on (seed, epoch, image), never on a worker's state, so the batches of an epoch are
the same for any number of workers, any number of processes and after any restart.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from kennel.classifier.data.augment import augment
from kennel.classifier.data.cache import ImageCache
from kennel.classifier.data.folder import ImageFolder
from kennel.classifier.data.images import decode, read_header
from kennel.classifier.data.preprocess import Preprocessing, evaluation_tensor, scale_to_square
from kennel.contract.errors import ImageError, PhotoError
from kennel.contract.hyperparameters import TrainConfig

T = TypeVar("T")
Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 (N, 3, H, W) and int64 (N,)
Stamp = tuple[int, int, int]  # a worker (-1: no worker), and when a batch was begun and ended, by time.monotonic_ns
Key = tuple[int, ...]  # (epoch, image) or (epoch, image, number of the view)

_REST_S = 0.3
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
        cache: ImageCache | None = None,
    ) -> None:
        self._folder, self._preprocessing = folder, preprocessing
        self._min_crop_area, self._seed = min_crop_area, seed
        self._hflip, self._augment, self._cache = hflip, augment, cache

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        rng = np.random.default_rng((self._seed, *key))
        pixels = self._pixels(key[1])
        left, upper, right, lower = random_box((pixels.shape[1], pixels.shape[0]), self._min_crop_area, rng)
        view = scale_to_square(torch.from_numpy(pixels[upper:lower, left:right]), self._preprocessing)
        view = view.flip(2) if rng.random() < self._hflip else view
        return augment(view, self._augment, int(rng.integers(2**63))), self._folder.samples[key[1]].target

    def _pixels(self, index: int) -> npt.NDArray[np.uint8]:
        """An image as large as its smallest crop needs it, whatever the crop, so that one decoding serves all."""
        kept = None if self._cache is None else self._cache.get(index)
        if kept is not None:
            return kept
        path = self._folder.samples[index].path
        with _naming(path), read_header(path) as image:
            # The side of a crop of the least area and the longest shape.
            smallest = math.sqrt(self._min_crop_area * image.width * image.height * _RATIO[0])
            photo = decode(image, scale=min(1.0, self._preprocessing.crop_px / max(1.0, smallest)))
        pixels = np.array(photo)
        if self._cache is not None:
            self._cache.put(index, pixels)
        return pixels


class EvaluationImages(Dataset[tuple[torch.Tensor, int]]):
    """The centre crop of an image, exactly as serving cuts it."""

    def __init__(self, folder: ImageFolder, preprocessing: Preprocessing, cache: ImageCache | None = None) -> None:
        self._folder, self._preprocessing, self._cache = folder, preprocessing, cache

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = self._folder.samples[index]
        kept = None if self._cache is None else self._cache.get(index)
        if kept is not None:
            return torch.from_numpy(kept.reshape(3, *kept.shape[:2])), sample.target
        with _naming(sample.path):
            view = evaluation_tensor(sample.path, self._preprocessing)
        if self._cache is not None:
            side = self._preprocessing.crop_px
            self._cache.put(index, view.numpy().reshape(side, side, 3))  # as it lies, not as an image
        return view, sample.target


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which photo it was."""
    try:
        yield
    except ImageError as error:
        raise PhotoError(
            f"{path} could be read when training began, and cannot be now: {error}. Leave the channels alone while a "
            "job runs."
        ) from error


class StampedImages(Dataset[tuple[torch.Tensor, int]]):
    """Images whose batches tell who made them and when; to be collated by `collate_stamped`."""

    def __init__(self, images: Dataset[tuple[torch.Tensor, int]]) -> None:
        self._images = images

    def __getitem__(self, key: Any) -> tuple[torch.Tensor, int]:
        return self._images[key]

    def __getitems__(self, keys: Sequence[Any]) -> tuple[int, list[tuple[torch.Tensor, int]]]:
        """What a loader asks for, once a batch."""
        return time.monotonic_ns(), [self._images[key] for key in keys]


def collate_stamped(batch: tuple[int, list[tuple[torch.Tensor, int]]]) -> tuple[torch.Tensor, torch.Tensor, Stamp]:
    """Images, targets, and the stamp."""
    started_ns, items = batch
    images, targets = default_collate(items)
    worker = get_worker_info()
    return images, targets, (-1 if worker is None else worker.id, started_ns, time.monotonic_ns())


class Order:
    """A new order of all images for each epoch, from the seed and the epoch's number alone."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, seed

    def __len__(self) -> int:
        return self._size

    def keys(self, epoch: int) -> list[Key]:
        """All images of an epoch, counted from 1, in their order."""
        rng = np.random.default_rng((self._seed, epoch))
        return [(epoch, int(index)) for index in rng.permutation(self._size)]


class BalancedOrder(Order):
    """As many images as there are, drawn with replacement so that every class is equally likely.

    An image that is drawn again in an epoch shows another view.
    """

    def __init__(self, targets: Sequence[int], seed: int) -> None:
        super().__init__(len(targets), seed)
        counts = np.bincount(np.asarray(targets))
        self._probabilities = 1.0 / (np.count_nonzero(counts) * counts[np.asarray(targets)])

    def keys(self, epoch: int) -> list[Key]:
        """All draws of an epoch in their order, each with the number of earlier draws of the same image."""
        rng = np.random.default_rng((self._seed, epoch))
        drawn = rng.choice(self._size, self._size, p=self._probabilities).tolist()
        seen: Counter[int] = Counter()
        keys: list[Key] = []
        for index in drawn:
            keys.append((epoch, index, seen[index]))
            seen[index] += 1
        return keys


def order_for(targets: Sequence[int], config: TrainConfig) -> Order:
    """The order of the training images by the hyperparameter `sampling`.

    Args:
        targets: the class of every image, in the folder's order.
        config: `sampling` and `seed`.
    """
    if config.sampling == "balanced":
        return BalancedOrder(targets, config.seed)
    return Order(len(targets), config.seed)


class EpochBatches(Sampler[list[Key]]):
    """The steps of an epoch: this process's share of the images of each.

    The steps are those of a single process: every step's images are dealt out to the processes one by one, so their
    number changes nothing but who computes what. Set `epoch` before each pass; `skip` leaves out that many steps at
    its start, which is how a stopped run goes on in the middle of an epoch.
    """

    def __init__(self, order: Order, batch_size: int, *, rank: int = 0, processes: int = 1) -> None:
        self._order, self._batch_size = order, batch_size
        self._rank, self._processes = rank, processes
        self.epoch, self.skip = 1, 0
        whole, rest = divmod(len(order), batch_size)
        # Batch normalisation cannot take the variance of a single value, so each process gets two images or none.
        self._own = [batch_size] * whole + [rest] * (rest >= 2 * processes or whole == 0)
        self.sizes = self._own  # images of each step, of all processes together

    @property
    def whole(self) -> int:
        """Steps with the full number of images."""
        return len(self._order) // self._batch_size

    def join(self, steps: int, hosts: int) -> None:
        """Where every host has images of its own: each gives the same number of them to each of `steps` steps."""
        self._own = [self._batch_size] * steps
        self.sizes = [hosts * self._batch_size] * steps

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Iterator[list[Key]]:
        keys = self._order.keys(self.epoch)
        for step in range(self.skip, len(self._own)):
            first = step * self._batch_size
            yield keys[first : first + self._own[step]][self._rank :: self._processes]


def random_box(size: tuple[int, int], min_area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random part of an image: `min_area` to all of its area, 3:4 to 4:3, as torchvision's RandomResizedCrop.

    Returns:
        left, upper, right and lower, in whole pixels.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(min_area, 1.0)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = max(1, round(math.sqrt(area * ratio))), max(1, round(math.sqrt(area / ratio)))
        if w <= width and h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def default_workers(device: torch.device, processes: int = 1) -> tuple[int, str]:
    """Loader processes for each of a host's training processes, and the reason for that number."""
    cores = max(1, available_cores() // processes)
    if device.type == "cuda":
        return min(cores, 16), f"{cores} cores feed a GPU"
    return max(1, cores // 4), f"{cores} cores also compute the steps"


def training_loader(
    images: TrainingImages, batches: EpochBatches, *, workers: int, pin: bool, stamped: bool = False
) -> DataLoader[Batch]:
    """Batches of random views, `stamped` for the profiler. Set `batches.epoch` before each pass."""
    return _loader(images, batches, workers, pin, stamped=stamped)


def view_loader(
    images: TrainingImages, views: int, *, batch_size: int, workers: int, pin: bool, rank: int = 0, processes: int = 1
) -> DataLoader[Batch]:
    """All images in the folder's order with their random view of epoch 1, then of epoch 2, up to `views`.

    Of several processes each gets every n-th batch.
    """
    keys: list[Key] = [(epoch, index) for epoch in range(1, views + 1) for index in range(len(images))]
    return _loader(images, _chunks(keys, batch_size)[rank::processes], workers, pin)


def evaluation_loader(
    folder: ImageFolder,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int,
    pin: bool,
    rank: int = 0,
    processes: int = 1,
    cache: ImageCache | None = None,
    stamped: bool = False,
) -> DataLoader[Batch]:
    """Batches of centre crops in the folder's order; of several processes each gets every n-th batch."""
    batches = _chunks(range(len(folder)), batch_size)[rank::processes]
    return _loader(EvaluationImages(folder, preprocessing, cache), batches, workers, pin, stamped=stamped)


def begin(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """A pass over a loader, whose processes are forked at the first one.

    After each exchange gloo's threads let go of its tensors, for which they enter the interpreter; a fork at that
    moment leaves the child a lock that nobody will ever release. Hence a pause, in which they come to rest.
    """
    if loader.num_workers > 0 and dist.is_initialized():
        time.sleep(_REST_S)
    return iter(loader)


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def _loader(
    images: Dataset[Any], batches: Iterable[Sequence[Any]], workers: int, pin: bool, *, stamped: bool = False
) -> DataLoader[Batch]:
    collate: Any = collate_stamped if stamped else None
    made: Dataset[Any] = StampedImages(images) if stamped else images
    return DataLoader(
        made,
        collate_fn=collate,
        batch_sampler=batches,  # type: ignore[arg-type]  # any sequence is as good as a list
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
        generator=torch.Generator(),  # a loader draws a seed at each start: not from the one that dropout uses
    )
