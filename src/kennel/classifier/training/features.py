"""Head-only training: what the frozen part of a network makes of an image is computed once and kept."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from kennel.classifier.data.folder import ImageFolder
from kennel.classifier.data.loader import Batch, EpochBatches, begin, evaluation_loader, view_loader
from kennel.classifier.data.memory import available_bytes
from kennel.classifier.evaluation.evaluate import Evaluation, evaluate
from kennel.classifier.network.model import head_parameters, set_training_mode
from kennel.classifier.network.precision import Precision
from kennel.classifier.network.predictor import Predictor
from kennel.classifier.training.channels import Channels, Epochs, training_images
from kennel.classifier.training.job import Job
from kennel.classifier.training.shared import SharedFolder
from kennel.classifier.training.trainer import Data
from kennel.contract.hyperparameters import TrainConfig

_LOG = logging.getLogger(__name__)
_MEMORY_SHARE = 0.5  # of what is free; the rest is left for training
_BATCH = 32  # images in a pass; not batch_size, so that trials which differ in it have the same features to the bit


class Stopped(Exception):  # noqa: N818 - no error: what a user asked for
    """The platform asked for an end while features were computed; nothing has been learnt since the last checkpoint."""


class Head(nn.Module):
    """The end of a network from which on something is learnt or random; its modules keep their names and weights.

    Maps features, which are what the first of these modules is given, to logits (N, classes).
    """

    def __init__(self, model: nn.Module, parameters: frozenset[str]) -> None:
        """Cut a head off; its modules stay the network's own.

        Args:
            model: the whole network, frozen but for its head.
            parameters: names of the head's parameters.
        """
        super().__init__()
        path = next(iter(parameters)).rpartition(".")[0]
        parent, _, name = path.rpartition(".")
        owner = model.get_submodule(parent)
        names = [child for child, _ in owner.named_children()] if isinstance(owner, nn.Sequential) else [name]
        random = [one for one in names if isinstance(owner.get_submodule(one), nn.Dropout)]
        names = names[min(names.index(one) for one in (name, *random)) :]
        self._steps = [owner.get_submodule(one) for one in names]
        self._title = type(model).__name__
        place: nn.Module = self
        for part in filter(None, parent.split(".")):
            place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        for one, module in zip(names, self._steps, strict=True):
            place.add_module(one, module)

    @property
    def first(self) -> nn.Module:
        """The module whose input is the features."""
        return self._steps[0]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes)."""
        for step in self._steps:
            features = step(features)
        return features.flatten(1)

    def _get_name(self) -> str:
        return self._title  # the debugger names tensors after it, as for the whole network


@dataclass
class FeatureBatches:
    """Batches of stored features, in the order of the steps; with several views of an image each in its turn."""

    features: torch.Tensor  # (views, images, ...)
    targets: torch.Tensor  # int64 (images,)
    steps: EpochBatches

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.steps:
            images = torch.tensor([key[1] for key in keys])
            # Epochs are counted from 1; an image that is drawn again in an epoch shows its next view.
            views = torch.tensor([key[0] - 1 + sum(key[2:]) for key in keys]) % len(self.features)
            yield self.features[views, images], self.targets[images]


def reason_against(config: TrainConfig) -> str | None:
    """Why features cannot be kept under this configuration, or None."""
    if config.feature_views == 0:
        return "feature_views=0"
    if config.mixup or config.cutmix:
        return "mixup and cutmix blend images, not features"
    return None


class Extractor:
    """Runs images through a network and keeps what its head is given."""

    def __init__(self, job: Job, model: nn.Module, head: Head, precision: Precision) -> None:
        self._job, self._model, self._head, self._precision = job, model, head, precision
        self._prepare = job.prepare(precision)

    @torch.no_grad()
    def logits_and_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network makes of a batch of the loader, and what its head was given."""
        kept: list[torch.Tensor] = []
        first = self._head.first  # may work in place: hence the copy
        handle = first.register_forward_pre_hook(lambda _module, inputs: kept.append(inputs[0].clone()))
        try:
            with self._precision.autocast():
                logits = self._model(self._prepare(images))
        finally:
            handle.remove()
        return logits, kept[0]

    def is_exact(self, images: torch.Tensor) -> bool:
        """Whether the head on features does what the network does, dropout included.

        Not so where something is random before the head, or where more than the head follows it.
        """
        set_training_mode(self._model)
        set_training_mode(self._head)
        with self._random(0):
            expected, features = self.logits_and_features(images)
        with self._random(1):
            _, again = self.logits_and_features(images)
        with self._random(0), torch.no_grad(), self._precision.autocast():
            found = self._head(features.clone())  # it may work in place
        return torch.equal(features, again) and found.shape == expected.shape and torch.allclose(found, expected, 1e-3)

    @contextmanager
    def _random(self, seed: int) -> Iterator[None]:
        """Random numbers of a block's own; training's go on as if it never was."""
        device = self._job.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def reason_against(self, images: int) -> str | None:
        """Why features of so many images, each view counted, cannot be kept; None where they can."""
        noise = _noise(self._job)
        if not self.is_exact(noise):
            return f"{self._job.config.arch} is random in front of its head, or more than the head follows it"
        self._model.eval()
        one = self.logits_and_features(noise)[1][0]
        needed = one.numel() * one.element_size() * images * self._job.world.local_size
        free = available_bytes()
        if needed > _MEMORY_SHARE * free:
            return f"they need {needed / 1e9:.3g} GB, more than half of the {free / 1e9:.3g} GB that is free"
        return None

    def identity(self, images: Mapping[str, Any]) -> dict[str, Any]:
        """All that features depend on, as plain values: where these are equal, computing them again gives the same.

        Args:
            images: what tells which images they are, and which views of them.
        """
        device = self._job.device
        return {
            **images,
            "arch": self._job.config.arch,
            "backbone": digest(self._model, self._head),
            "preprocessing": asdict(self._job.preprocessing),
            "arithmetic": [self._precision.name, self._precision.channels_last, _BATCH, torch.get_num_threads()],
            "machine": [torch.__version__, torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"],
        }

    def features(self, batches: DataLoader[Batch]) -> Batch:
        """Features and targets of all batches, in their order, of which each process of the host computes a part.

        Raises:
            Stopped: the platform asked for an end before all were done.
        """
        self._model.eval()  # dropout in the head would use up random numbers that training is to have
        own: list[Batch] = []
        for images, targets in begin(batches):
            own.append((self.logits_and_features(images)[1].cpu(), targets))
            if self._job.stop:
                break
        if self._job.world.sums(bool(self._job.stop))[0] > 0:
            raise Stopped
        shares = self._job.world.gather_on_host(own)
        in_order = [share[turn] for turn in range(len(shares[0])) for share in shares if turn < len(share)]
        return torch.cat([one for one, _ in in_order]), torch.cat([wanted for _, wanted in in_order])


def keep(
    job: Job, model: nn.Module, channels: Channels, epochs: Epochs, precision: Precision
) -> tuple[Head, Data] | None:
    """Compute the features of all images, so that epochs run the head alone.

    Returns:
        the head and its batches; None where that would not be the same as running the whole network (the log says
        why), which is then to be done in every epoch.

    Raises:
        Stopped: the platform asked for an end first.
    """
    started = time.perf_counter()
    head = Head(model, head_parameters(job.config.arch))
    extractor = Extractor(job, model, head, precision)
    views = min(job.config.feature_views, job.config.epochs)
    images = len(channels.train) * views + len(channels.validation)
    against = reason_against(job.config) or extractor.reason_against(images)
    if any(job.world.gather(against)):
        _LOG.info("Features: computed anew in every epoch (%s)", against or "another host cannot keep them")
        return None
    world, size = job.world, job.evaluation_batch
    shared = SharedFolder.of(job.paths) if world.size == 1 else None
    made = _shared(shared, job, extractor, channels, views) if shared else _compute(job, extractor, channels, views)
    stored = FeatureBatches(made["train"], made["targets"], epochs.steps)
    judged, wanted = made["validation"], made["wanted"]
    validation = list(zip(torch.split(judged, size), torch.split(wanted, size), strict=True))[world.rank :: world.size]
    log_size([made["train"], judged.unsqueeze(0)], started)
    identity = epochs.identity | {"backbone": digest(model, head)}
    return head, Data(stored, epochs.steps, validation, epochs.class_counts, identity)


def _compute(job: Job, extractor: Extractor, channels: Channels, views: int) -> dict[str, torch.Tensor]:
    """Features and targets of all images: (views, images, ...) of training, (images, ...) of validation."""
    world = job.world
    mine: dict[str, Any] = {"batch_size": _BATCH, "workers": job.workers, "pin": job.pin}
    mine |= {"rank": world.local_rank, "processes": world.local_size}
    training, targets = extractor.features(view_loader(training_images(job, channels), views, **mine))
    training = training.reshape(views, len(channels.train), *training.shape[1:])
    judged, wanted = extractor.features(evaluation_loader(channels.validation, job.preprocessing, **mine))
    return {"train": training, "targets": targets[: len(channels.train)], "validation": judged, "wanted": wanted}


def _shared(
    shared: SharedFolder, job: Job, extractor: Extractor, channels: Channels, views: int
) -> dict[str, torch.Tensor]:
    """As `_compute`, unless another trial has done so."""
    config = job.config
    images = {
        "train": channels.train.fingerprint(), "validation": channels.validation.fingerprint(),
        "views": [views, config.seed, config.min_crop_area, config.hflip, config.augment],
    }  # fmt: skip
    place = shared.path("features", extractor.identity(images))
    made, found = shared.once(place, lambda: _compute(job, extractor, channels, views), lambda: bool(job.stop))
    if found:
        _LOG.info("Features: as an earlier trial of this tuning job computed them")
    return made


def judge(job: Job, predictor: Predictor, folder: ImageFolder) -> Evaluation | None:
    """What an artifact makes of a channel, through features that the trials of a tuning job share.

    Returns:
        the same as running all images through the predictor; None where there is nothing to share.
    """
    shared = SharedFolder.of(job.paths) if job.world.size == 1 and job.config.train_layers == "head" else None
    if shared is None:
        return None
    head = Head(predictor.model, head_parameters(job.config.arch))
    extractor = Extractor(job, predictor.model, head, Precision("fp32", False, job.device.type, "as it is served"))
    predictor.model.eval()
    head.eval()
    logits, features = extractor.logits_and_features(_noise(job))
    with torch.no_grad():
        if not torch.allclose(head(features), logits, 1e-3):  # more than the head follows the features
            return None

    def compute() -> dict[str, torch.Tensor]:
        batches = evaluation_loader(folder, job.preprocessing, batch_size=_BATCH, workers=job.workers, pin=job.pin)
        features, targets = extractor.features(batches)
        return {"features": features, "targets": targets}

    place = shared.path("judged", extractor.identity({"images": folder.fingerprint()}))
    try:
        known, _ = shared.once(place, compute, lambda: bool(job.stop))
    except Stopped:
        return None
    batches = zip(torch.split(known["features"], _BATCH), torch.split(known["targets"], _BATCH), strict=True)
    return evaluate(lambda features: head(features.to(job.device)), batches)


def _noise(job: Job) -> torch.Tensor:
    side = job.preprocessing.crop_px
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def digest(model: nn.Module, head: Head) -> str:
    """SHA-256 of the frozen part: features of other weights are other features."""
    mine = head.state_dict().keys()
    hashed = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if name not in mine:
            hashed.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def log_size(kept: Iterable[torch.Tensor], started_s: float) -> None:
    """One line: how many numbers an image became, how much memory they take, how long it took."""
    tensors = list(kept)
    size_mb = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6
    views, images = tensors[0].shape[:2]
    numbers = tensors[0][0, 0].numel()
    _LOG.info(
        "Features: %d numbers of each of %d images in %d views, %.3g MB with validation, computed in %.3g s; from here "
        "on only the head works.",
        numbers, images, views, size_mb, time.perf_counter() - started_s,
    )  # fmt: skip
