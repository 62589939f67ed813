"""A training job from its channels to its artifact."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, dataclass

import torch
from torch import nn

from kennel.classifier import debugging, report
from kennel.classifier.artifact import Meta, save_artifact
from kennel.classifier.checkpoints import CheckpointFolder
from kennel.classifier.config import TrainConfig
from kennel.classifier.contract import ContainerPaths, write_json
from kennel.classifier.errors import ConfigError, DataError
from kennel.classifier.folder import ImageFolder, describe_bad, read_labels, scan, split
from kennel.classifier.inputs import find_inputs
from kennel.classifier.loader import (
    TrainingImages,
    default_workers,
    evaluation_loader,
    sampler_for,
    training_loader,
)
from kennel.classifier.loop import Data, History, Trainer
from kennel.classifier.model import (
    build,
    check_train_layers,
    find_pretrained,
    freeze,
    head_parameters,
    load_backbone,
)
from kennel.classifier.precision import Precision, choose
from kennel.classifier.preprocess import Preprocessing
from kennel.classifier.recipe import count_trainable
from kennel.classifier.revision import git_revision
from kennel.classifier.stop import StopSignal

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Channels:
    """The images of a job."""

    train: ImageFolder
    validation: ImageFolder
    test: ImageFolder | None
    validation_source: str


def run(config: TrainConfig, paths: ContainerPaths, stop: StopSignal) -> Meta:
    """Train, evaluate and leave the artifact in `paths.model_dir`, reports in `paths.output_data_dir`.

    Raises:
        KennelError: the configuration, the data or the pretrained weights cannot be used.
    """
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_network(config)
    preprocessing = Preprocessing.for_arch(config.arch, resize_px=config.resize_px, crop_px=config.crop_px)
    channels = load_channels(config, paths)
    model = prepare_model(config, paths, len(channels.train.classes)).to(device)
    data = load_data(config, channels, preprocessing, device)
    history = train(model, data, preprocessing, config, paths, device=device, stop=stop)
    if history.rows:
        model.load_state_dict(history.best_state)
    meta = save_artifact(paths.model_dir, model, describe(config, channels, preprocessing, history))
    which = f"epoch {history.best_epoch} of {len(history.rows)}" if history.rows else "the last step, not validated"
    _LOG.info("Artifact: weights of %s, in %s", which, paths.model_dir)
    if stop:
        return meta  # the platform waits 120 seconds and no longer; reports come with the resumed run
    judged = ("test", channels.test) if channels.test else ("validation", channels.validation)
    workers = data.validation.num_workers
    return report.write(paths, history.rows, *judged, batch_size=config.batch_size, workers=workers)


def train(
    model: nn.Module,
    data: Data,
    preprocessing: Preprocessing,
    config: TrainConfig,
    paths: ContainerPaths,
    *,
    device: torch.device,
    stop: StopSignal,
) -> History:
    """Run the loop, from the newest checkpoint if there is one."""
    checkpoints = checkpoint_folder(config, paths)
    state = checkpoints.load() if checkpoints else None
    side = preprocessing.crop_px
    blank = torch.zeros(config.batch_size, 3, side, side, device=device)
    # A measurement may come out differently each time: a resumed run keeps the choice that it began with.
    precision = Precision(**state["precision"]) if state else choose(model, blank, config, device)
    _LOG.info("Precision: %s", precision)
    trainer = Trainer(
        precision.place(model),
        data,
        preprocessing,
        config,
        device=device,
        precision=precision,
        stop=stop,
        checkpoints=checkpoints,
        metrics_file=paths.output_data_dir / "metrics.jsonl",
    )
    if state is not None:
        trainer.restore(state)
    losses = [trainer.loss, trainer.validation_loss]
    debugger = debugging.attach(model, losses, paths, choice=config.debugger, steps_per_epoch=len(data.training))
    history = trainer.fit(debugger)
    debugger.close()
    return history


def check_network(config: TrainConfig) -> None:
    """Refuse what cannot work before any image is read.

    Raises:
        ModelError: unknown architecture or stage.
        ConfigError: compile=on beside the debugger, or without a compiler.
    """
    check_train_layers(config.arch, config.train_layers)
    if config.compile == "off":
        return
    problems = []
    if config.debugger != "off":
        problems.append(
            "compile=on and the debugger exclude each other: a compiled network runs no hooks. Set debugger=off."
        )
    if not (shutil.which("g++") or shutil.which("clang++")):
        problems.append("compile=on needs a C++ compiler (g++ or clang++), and there is none here. Set compile=off.")
    if problems:
        raise ConfigError(problems)


def load_channels(config: TrainConfig, paths: ContainerPaths) -> Channels:
    """Scan the channels; without `validation`, cut it from `train`.

    Raises:
        DataError: no `train` channel, or what `find_inputs`, `scan` and `split` raise.
    """
    inputs = find_inputs(paths)
    if "train" not in inputs.channels:
        there = sorted(p.name for p in paths.channels_dir.glob("*")) if paths.channels_dir.is_dir() else []
        raise DataError(
            f"No channel 'train' in {paths.channels_dir} (channels there: {', '.join(there) or 'none'}). Add one with "
            "a folder of images for each class."
        )
    processes, _ = default_workers(torch.device("cuda"))  # nothing else runs yet: every core may read

    def load(name: str, classes: tuple[str, ...] | None) -> ImageFolder | None:
        channel = inputs.channels.get(name)
        if channel is None:
            return None
        folder = scan(channel, classes=classes, bad_images=config.bad_images, workers=processes)
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
        return Channels(train, validation, test, "channel")
    kept, cut = split(train, config.validation_fraction, config.seed)
    _LOG.info("Validation: %d images cut from train, %d stay (seed %d)", len(cut), len(kept), config.seed)
    return Channels(kept, cut, test, f"{config.validation_fraction:g} of train, seed {config.seed}")


def prepare_model(config: TrainConfig, paths: ContainerPaths, num_classes: int) -> nn.Module:
    """A network with its first weights, frozen where the configuration says so."""
    model = build(config.arch, num_classes)
    head = head_parameters(config.arch)
    pretrained = find_pretrained(config.pretrained, config.arch, paths.channel("pretrained"))
    if pretrained is None:
        _LOG.info("Weights: fresh (pretrained=none), %s", config.arch)
        if config.train_layers != "all":
            _LOG.warning("train_layers=%s freezes random weights; this learns little.", config.train_layers)
    else:
        fresh = load_backbone(model, pretrained, head)
        _LOG.info("Weights: %s from %s; fresh: %s", config.arch, pretrained.source, ", ".join(fresh) or "none")
    freeze(model, config.train_layers, head)
    total = sum(parameter.numel() for parameter in model.parameters())
    _LOG.info(
        "Training %d of %d weights (train_layers=%s)", count_trainable(model.parameters()), total, config.train_layers
    )
    return model


def load_data(config: TrainConfig, channels: Channels, preprocessing: Preprocessing, device: torch.device) -> Data:
    """Loaders over the training and validation images."""
    workers, reason = (config.num_workers, "as given") if config.num_workers >= 0 else default_workers(device)
    _LOG.info("Device: %s, %d threads; %d loader processes (%s)", device, torch.get_num_threads(), workers, reason)
    size, pin = config.batch_size, device.type == "cuda"
    views = TrainingImages(
        channels.train,
        preprocessing,
        min_crop_area=config.min_crop_area,
        seed=config.seed,
        hflip=config.hflip,
        augment=config.augment,
    )
    sampler = sampler_for([sample.target for sample in channels.train.samples], config)
    return Data(
        training_loader(views, sampler, batch_size=size, workers=workers, pin=pin),
        sampler,
        evaluation_loader(channels.validation, preprocessing, batch_size=size, workers=workers, pin=pin),
        channels.train.counts(),
        {"classes": list(channels.train.classes), "fingerprint": channels.train.fingerprint()},
    )


def checkpoint_folder(config: TrainConfig, paths: ContainerPaths) -> CheckpointFolder | None:
    """Where to save and resume, if at all."""
    wanted = config.checkpoints == "on" or (config.checkpoints == "auto" and paths.checkpoints_dir.is_dir())
    if not wanted:
        _LOG.info("Checkpoints: none (checkpoints=%s)", config.checkpoints)
        return None
    _LOG.info("Checkpoints: %s, the newest %d are kept", paths.checkpoints_dir, config.keep_checkpoints)
    return CheckpointFolder(paths.checkpoints_dir, keep=config.keep_checkpoints)


def describe(config: TrainConfig, channels: Channels, preprocessing: Preprocessing, history: History) -> Meta:
    """What the artifact says of itself, before the test images were seen."""
    return Meta(
        arch=config.arch,
        classes=channels.train.classes,
        labels=read_labels(channels.train.classes),
        preprocessing=preprocessing,
        hyperparameters=asdict(config),
        metrics={"best_epoch": history.best_epoch, **history.best},
        data={
            "train_images": len(channels.train),
            "validation_images": len(channels.validation),
            "test_images": len(channels.test) if channels.test else 0,
            "validation_source": channels.validation_source,
            "fingerprint": channels.train.fingerprint(),
        },
        git_revision=git_revision(),
    )
