"""A training job from its channels to its artifact."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from kennel.classifier import debugging, report
from kennel.classifier.artifact import Meta, save_artifact
from kennel.classifier.config import TrainConfig
from kennel.classifier.contract import ContainerPaths, write_json, write_text
from kennel.classifier.errors import DataError, TrainingError
from kennel.classifier.evaluate import evaluate
from kennel.classifier.folder import ImageFolder, describe_bad, read_labels, scan, split
from kennel.classifier.inputs import find_inputs
from kennel.classifier.loader import (
    Batch,
    EpochSampler,
    TrainingImages,
    default_workers,
    evaluation_loader,
    training_loader,
)
from kennel.classifier.metrics import metric_line
from kennel.classifier.model import (
    build,
    find_pretrained,
    freeze_backbone,
    head_parameters,
    load_backbone,
    set_training_mode,
)
from kennel.classifier.preprocess import Preprocessing, normalise
from kennel.classifier.recipe import count_trainable, optimizer_for, scheduler_for
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


@dataclass
class History:
    """What the epochs gave, and the weights of the best one."""

    rows: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0

    def json_lines(self) -> str:
        """One JSON object an epoch: the file metrics.jsonl."""
        return "".join(json.dumps({"epoch": i, **row}) + "\n" for i, row in enumerate(self.rows, 1))

    def add(self, row: dict[str, float], model: nn.Module) -> None:
        """Take an epoch's row; keep a copy of the weights when no earlier epoch was as good."""
        self.rows.append(row)
        rank = (row["validation_accuracy"], -row["validation_loss"])
        if not self.best or rank > (self.best["validation_accuracy"], -self.best["validation_loss"]):
            self.best, self.best_epoch = row, len(self.rows)
            self.best_state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def run(config: TrainConfig, paths: ContainerPaths, stop: StopSignal) -> Meta:
    """Train, evaluate and leave the artifact in `paths.model_dir`, reports in `paths.output_data_dir`.

    Raises:
        KennelError: the configuration, the data or the pretrained weights cannot be used.
    """
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    workers, reason = (config.num_workers, "as given") if config.num_workers >= 0 else default_workers(device)
    _LOG.info("Device: %s, %d threads; %d loader processes (%s)", device, torch.get_num_threads(), workers, reason)
    preprocessing = Preprocessing.for_arch(_known(config.arch), resize_px=config.resize_px, crop_px=config.crop_px)
    channels = load_channels(config, paths)
    model = prepare_model(config, paths, len(channels.train.classes)).to(device)
    history = fit(model, channels, preprocessing, config, paths, workers=workers, device=device, stop=stop)
    model.load_state_dict(history.best_state)
    save_artifact(paths.model_dir, model, describe(config, channels, preprocessing, history))
    _LOG.info("Artifact: weights of epoch %d of %d, in %s", history.best_epoch, len(history.rows), paths.model_dir)
    judged = ("test", channels.test) if channels.test else ("validation", channels.validation)
    return report.write(paths, history.rows, *judged, batch_size=config.batch_size, workers=workers)


def _known(arch: str) -> str:
    with torch.device("meta"):
        build(arch, 2)  # raises for an unknown name, before any image is read
    return arch


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
        if config.train_layers == "head":
            _LOG.warning("train_layers=head trains the head of a network of random weights; this learns little.")
    else:
        fresh = load_backbone(model, pretrained, head)
        _LOG.info("Weights: %s from %s; fresh: %s", config.arch, pretrained.source, ", ".join(fresh) or "none")
    if config.train_layers == "head":
        freeze_backbone(model, head)
    total = sum(parameter.numel() for parameter in model.parameters())
    _LOG.info(
        "Training %d of %d weights (train_layers=%s)", count_trainable(model.parameters()), total, config.train_layers
    )
    return model


@dataclass(frozen=True)
class Loop:
    """What every epoch needs and none changes, but for the state inside."""

    model: nn.Module
    preprocessing: Preprocessing
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    device: torch.device
    stop: StopSignal

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Run the network on uint8 images of any device."""
        images = images.to(self.device, non_blocking=True)
        return self.model(normalise(images, self.preprocessing))  # type: ignore[no-any-return]

    def train_epoch(self, batches: Iterable[Batch]) -> dict[str, float]:
        """One pass over the training images, or less when `stop` becomes true."""
        set_training_mode(self.model)
        started, seen, loss_sum, hits = time.perf_counter(), 0, 0.0, 0
        for images, targets in batches:
            wanted = targets.to(self.device, non_blocking=True)
            logits = self.logits(images)
            loss = self.loss(logits, wanted)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            seen += len(targets)
            loss_sum += float(loss.detach()) * len(targets)  # waits for the GPU; once a step
            hits += int((logits.detach().argmax(1) == wanted).sum())
            if self.stop:
                break
        seconds = time.perf_counter() - started
        return {"train_loss": loss_sum / seen, "train_accuracy": hits / seen, "images_per_second": seen / seconds}


def fit(
    model: nn.Module,
    channels: Channels,
    preprocessing: Preprocessing,
    config: TrainConfig,
    paths: ContainerPaths,
    *,
    workers: int,
    device: torch.device,
    stop: StopSignal,
) -> History:
    """The epochs. When `stop` becomes true the epoch ends after its step, is validated, and is the last.

    Raises:
        TrainingError: the loss was not finite before any epoch gave usable weights.
    """
    size, pin = config.batch_size, device.type == "cuda"
    views = TrainingImages(channels.train, preprocessing, min_crop_area=config.min_crop_area, seed=config.seed)
    sampler = EpochSampler(len(channels.train), config.seed)
    batches = training_loader(views, sampler, batch_size=size, workers=workers, pin=pin)
    held_out = evaluation_loader(channels.validation, preprocessing, batch_size=size, workers=workers, pin=pin)
    optimizer = optimizer_for(model, config)
    scheduler = scheduler_for(optimizer, config, len(batches))
    loss, validation_loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing), nn.CrossEntropyLoss()
    loop = Loop(model, preprocessing, loss, optimizer, scheduler, device, stop)
    debugger = debugging.attach(
        model, [loss, validation_loss], paths, choice=config.debugger, steps_per_epoch=len(batches)
    )
    history = History()
    for epoch in range(1, config.epochs + 1):
        sampler.epoch = epoch
        debugger.train_mode()
        row = loop.train_epoch(batches)
        debugger.evaluation_mode()
        model.eval()
        evaluation = evaluate(loop.logits, held_out, watch=validation_loss)
        row |= {"validation_loss": evaluation.loss, "validation_accuracy": evaluation.accuracy}
        _LOG.info(metric_line(row, epoch=f"{epoch}/{config.epochs}"))
        if not math.isfinite(row["train_loss"] + row["validation_loss"]):
            _diverged(epoch, row, config, history)
            break
        history.add(row, model)
        write_text(paths.output_data_dir / "metrics.jsonl", history.json_lines())
        if stop:
            _LOG.warning("SIGTERM in epoch %d: training ends here; the best weights so far are kept.", epoch)
            break
    debugger.close()
    return history


def _diverged(epoch: int, row: dict[str, float], config: TrainConfig, history: History) -> None:
    what = (
        f"Epoch {epoch} ended with train_loss={row['train_loss']} and validation_loss={row['validation_loss']}: the "
        f"weights have diverged. Lower lr (now {config.lr:g}) or raise warmup_epochs (now {config.warmup_epochs:g})."
    )
    if not history.rows:
        raise TrainingError(what)
    _LOG.warning("%s The weights of epoch %d are kept.", what, history.best_epoch)


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
