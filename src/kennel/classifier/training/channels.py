"""The images of a job: what its channels hold, and the batches that are made of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kennel.classifier.data.cache import ImageCache, cache_for
from kennel.classifier.data.folder import ImageFolder, check_all, describe_bad, scan, split
from kennel.classifier.data.inputs import find_inputs
from kennel.classifier.data.loader import (
    EpochBatches,
    TrainingImages,
    available_cores,
    begin,
    default_workers,
    evaluation_loader,
    order_for,
    training_loader,
)
from kennel.classifier.training.job import Job
from kennel.classifier.training.shared import SharedFolder, boot_id, checked_once
from kennel.classifier.training.trainer import Data
from kennel.contract.errors import ConfigError, DataError
from kennel.contract.files import write_json
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.layout import TEST, TRAIN, VALIDATION
from kennel.contract.paths import ContainerPaths

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Channels:
    """The images of a job, as this host sees them."""

    train: ImageFolder
    validation: ImageFolder
    test: ImageFolder | None
    validation_source: str
    sharded: bool = False  # every host has a part of `train`


def load_channels(config: TrainConfig, paths: ContainerPaths) -> Channels:
    """Scan the channels; without `validation`, cut it from `train`.

    Raises:
        DataError: no `train` channel, a channel to be judged on that differs from host to host, or what `find_inputs`,
            `scan` and `split` raise.
    """
    inputs = find_inputs(paths)
    if "train" not in inputs.channels:
        there = sorted(p.name for p in paths.channels_dir.glob("*")) if paths.channels_dir.is_dir() else []
        raise DataError(
            f"No channel 'train' in {paths.channels_dir} (channels there: {', '.join(there) or 'none'}). Add one with "
            "a folder of images for each class."
        )
    sharded, shared = _is_sharded(paths), SharedFolder.of(paths)

    def load(name: str, classes: tuple[str, ...] | None) -> ImageFolder | None:
        channel = inputs.channels.get(name)
        if channel is None:
            return None
        cores = available_cores()  # nothing else runs yet
        check = checked_once(shared, partial(check_all, workers=cores)) if shared else None
        folder = scan(channel, classes=classes, bad_images=config.bad_images, workers=cores, check=check)
        log = _LOG.warning if folder.bad else _LOG.info
        log("Channel %s: %d images of %d classes. %s", name, len(folder), len(folder.classes), describe_bad(folder))
        return folder

    train = load("train", inputs.classes)
    assert train is not None  # noqa: S101 - the channel was found above
    validation, test = load("validation", train.classes), load("test", train.classes)
    bad = [{"path": str(b.path), "reason": b.reason} for f in (train, validation, test) if f for b in f.bad]
    if bad:
        write_json(paths.output_data_dir / "bad_images.json", bad)
    if validation is not None:
        return Channels(train, validation, test, "channel", sharded)
    if sharded:
        raise DataError(
            "Channel 'train' is ShardedByS3Key, so a validation part cut from it would differ from host to host. Add a "
            "channel 'validation', FullyReplicated."
        )
    kept, cut = split(train, config.validation_fraction, config.seed)
    _LOG.info("Validation: %d images cut from train, %d stay (seed %d)", len(cut), len(kept), config.seed)
    return Channels(kept, cut, test, f"{config.validation_fraction:g} of train, seed {config.seed}")


def _is_sharded(paths: ContainerPaths) -> bool:
    """Whether every host has a part of `train`; the channels that are judged must be whole everywhere."""
    if len(paths.read_hosts().names) == 1:
        return False
    sharded = {name for name, c in paths.read_channel_configs().items() if c.distribution == "ShardedByS3Key"}
    for name in sharded & {VALIDATION, TEST}:
        raise DataError(
            f"Channel '{name}' is ShardedByS3Key: the scores would be those of one host's part. Use FullyReplicated."
        )
    return TRAIN in sharded


@dataclass(frozen=True)
class Epochs:
    """What the steps of an epoch are made of, before any image is loaded."""

    steps: EpochBatches
    class_counts: list[int]  # training images of each class, of all hosts
    identity: dict[str, Any]  # what makes two runs' data the same


def plan_epochs(job: Job, channels: Channels) -> Epochs:
    """Deal out the images of each step to the processes.

    Raises:
        DataError: the hosts' images do not belong together, or are too few for the processes.
    """
    config, world, train = job.config, job.world, channels.train
    fingerprints = world.gather(train.fingerprint())[:: world.local_size]
    judged = world.gather(channels.validation.fingerprint())
    world.first_does(lambda: _require_same(VALIDATION, judged))
    world.first_does(lambda: _require_same(TRAIN, fingerprints[: 1 if channels.sharded else None]))
    order, counts = order_for([sample.target for sample in train.samples], config), train.counts()
    if channels.sharded:
        steps = EpochBatches(order, config.batch_size // world.hosts, rank=world.local_rank, processes=world.local_size)
        per_host = world.gather(counts)[:: world.local_size]
        counts = [sum(column) for column in zip(*per_host, strict=True)]
        _join_hosts(job, steps, [sum(own) for own in per_host])
        fingerprint = hashlib.sha256("".join(fingerprints).encode()).hexdigest()
    else:
        steps = EpochBatches(order, config.batch_size, rank=world.rank, processes=world.size)
        fingerprint = fingerprints[0]
        world.first_does(lambda: _require_enough(len(train), world.size))
    return Epochs(steps, counts, {"classes": list(train.classes), "fingerprint": fingerprint})


def load_data(job: Job, channels: Channels, epochs: Epochs) -> Data:
    """Loaders over the training and validation images."""
    config, world = job.config, job.world
    reason = "as given" if config.num_workers >= 0 else default_workers(job.device, world.local_size)[1]
    _LOG.info("Loader: %d processes (%s)", job.workers, reason)
    images, stamped = len(channels.train), job.profiler.is_on
    shared = _shared_cache(job, channels) if world.size == 1 else None
    cache = cache_for(images + len(channels.validation), config.image_cache, world.local_size, shared)
    validation = evaluation_loader(
        channels.validation,
        job.preprocessing,
        batch_size=job.evaluation_batch,
        workers=job.workers,
        pin=job.pin,
        rank=world.rank,
        processes=world.size,
        cache=cache and cache.part(images),
        stamped=stamped,
    )
    views = training_images(job, channels, cache)
    training = training_loader(views, epochs.steps, workers=job.workers, pin=job.pin, stamped=stamped)
    if job.workers > 0:
        # All forks here, none in the middle of training: one would hang among the threads of an exchange, and alone it
        # would make the next step copy every page that it writes to.
        begin(validation)
        begin(training)
    return Data(training, epochs.steps, validation, epochs.class_counts, epochs.identity)


def _shared_cache(job: Job, channels: Channels) -> tuple[Path, int] | None:
    """The file with decoded images for all trials that decode the same ones in the same way, and its room."""
    shared = SharedFolder.of(job.paths)
    if shared is None:
        return None
    identity = {
        "train": channels.train.fingerprint(), "validation": channels.validation.fingerprint(), "boot": boot_id(),
        "preprocessing": asdict(job.preprocessing), "min_crop_area": job.config.min_crop_area,
    }  # fmt: skip
    return shared.path("images", identity), shared.room_bytes() // 2  # another choice of sizes may want some, too


def training_images(job: Job, channels: Channels, cache: ImageCache | None = None) -> TrainingImages:
    """The random views that the configuration asks for."""
    config = job.config
    return TrainingImages(
        channels.train,
        job.preprocessing,
        min_crop_area=config.min_crop_area,
        seed=config.seed,
        hflip=config.hflip,
        augment=config.augment,
        cache=cache,
    )


def check_batch(config: TrainConfig, processes: int) -> None:
    """Refuse a batch that leaves a process less than two images of a step.

    Raises:
        ConfigError: with the smallest batch that works.
    """
    if processes > 1 and config.batch_size < 2 * processes:
        raise ConfigError(
            [
                f"batch_size is {config.batch_size}, the images of one step of all {processes} processes together; "
                f"batch normalisation needs two in each. Set it to at least {2 * processes}."
            ]
        )


def _join_hosts(job: Job, steps: EpochBatches, images: Sequence[int]) -> None:
    """Agree on the steps of an epoch: as many as the host with the fewest images has."""
    world = job.world
    whole = min(world.gather(steps.whole))
    share = job.config.batch_size // world.hosts

    def check() -> None:
        if whole == 0:
            raise DataError(
                f"Channel 'train' is ShardedByS3Key, and a host has only {min(images)} images, less than its {share} "
                f"of a step (batch_size={job.config.batch_size} over {world.hosts} hosts). Lower batch_size."
            )

    world.first_does(check)
    steps.join(whole, world.hosts)
    _LOG.info(
        "Channel train: the hosts have %s images; an epoch takes %d of each, other ones each time",
        ", ".join(map(str, images)), whole * share,
    )  # fmt: skip


def _require_enough(images: int, processes: int) -> None:
    if processes > 1 and images < 2 * processes:
        raise DataError(f"{images} training images are too few for {processes} processes. Use fewer processes.")


def _require_same(channel: str, fingerprints: Sequence[str]) -> None:
    if len(set(fingerprints)) > 1:
        raise DataError(
            f"The hosts have different images in channel '{channel}'. Deliver it FullyReplicated; only 'train' may be "
            "ShardedByS3Key, and inputdataconfig.json has to say so."
        )
