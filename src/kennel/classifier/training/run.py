"""A training job from its channels to its artifact."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import nn

from kennel.classifier.data.folder import read_labels
from kennel.classifier.data.preprocess import Preprocessing
from kennel.classifier.debugger import hook as debugging
from kennel.classifier.debugger import watching
from kennel.classifier.evaluation import report
from kennel.classifier.network.artifact import Meta, save_artifact
from kennel.classifier.network.model import (
    build,
    check_train_layers,
    find_pretrained,
    freeze,
    head_parameters,
    load_backbone,
)
from kennel.classifier.network.precision import Precision, choose
from kennel.classifier.network.predictor import Predictor
from kennel.classifier.network.probes import choose_probes, save_probes
from kennel.classifier.network.recipe import count_trainable
from kennel.classifier.network.revision import git_revision
from kennel.classifier.processes.distributed import World
from kennel.classifier.processes.stop import StopSignal
from kennel.classifier.profiler import report as profile_report
from kennel.classifier.profiler import start as profile_start
from kennel.classifier.training import features
from kennel.classifier.training.channels import Channels, Epochs, check_batch, load_channels, load_data, plan_epochs
from kennel.classifier.training.checkpoints import CheckpointFolder
from kennel.classifier.training.history import History
from kennel.classifier.training.job import Job
from kennel.classifier.training.shared import SharedFolder, measured_once
from kennel.classifier.training.trainer import Data, Trainer
from kennel.contract.errors import ConfigError, TrainingError
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths

_LOG = logging.getLogger(__name__)


def run(config: TrainConfig, paths: ContainerPaths, stop: StopSignal) -> None:
    """Train, evaluate and leave the artifact in `paths.model_dir`, reports in `paths.output_data_dir`.

    Under torchrun this is one of several processes, of which the first leaves the artifact and the reports.

    Raises:
        KennelError: the configuration, the data or the pretrained weights cannot be used.
    """
    world = World.from_environ()
    device = world.device()
    profiler = profile_start.start(config, paths, world, device)
    try:
        world.start(device)
        torch.manual_seed(config.seed)
        world.first_does(lambda: check_config(config, world))
        preprocessing = Preprocessing.for_arch(config.arch, resize_px=config.resize_px, crop_px=config.crop_px)
        work(Job(config, paths, preprocessing, device, stop, world, profiler))
    finally:
        profiler.close()
    if world.is_first and profiler.training_steps >= profile_report.LEAST_STEPS and (not stop or stop.by_rule):
        profile_report.write(paths)


def work(job: Job) -> None:
    """From the channels to the artifact."""
    with job.profiler.span("Initialization", "Channels"):
        channels = job.world.each_host_does(lambda: load_channels(job.config, job.paths))
    with job.profiler.span("Initialization", "Network"):
        model = prepare_model(job, len(channels.train.classes))
    history, epochs = train(job, model, channels)
    job.world.close()
    if job.world.is_first:
        leave(job, model, channels, history, epochs)


def leave(job: Job, model: nn.Module, channels: Channels, history: History, epochs: Epochs) -> None:
    """Write the artifact with the best weights, then judge it as it lies on disk."""
    with job.profiler.span("Finalization", "Artifact"):
        if history.rows:
            put_back(model, history.best_state)
        meta = describe(job, channels, epochs, history)
        save_artifact(job.paths.model_dir, model, meta)
        predictor = Predictor.load(job.paths.model_dir)
        known = features.judge(job, predictor, channels.validation)
        probabilities = known.probabilities if known else None
        save_probes(job.paths.model_dir, choose_probes(predictor, channels.validation, probabilities))
    which = f"epoch {history.best_epoch} of {len(history.rows)}" if history.rows else "the last step, not validated"
    _LOG.info("Artifact: weights of %s, in %s", which, job.paths.model_dir)
    if history.stopped and not job.stop.by_rule:
        return  # the platform waits 120 seconds and no longer; reports come with the resumed run
    judged = ("test", channels.test) if channels.test else ("validation", channels.validation)
    with job.profiler.span("Finalization", "Report"):
        evaluation = features.judge(job, predictor, channels.test) if channels.test else known
        try:
            report.write(
                job.paths, history.rows, *judged, batch_size=job.evaluation_batch, workers=job.workers,
                evaluation=evaluation,
            )  # fmt: skip
        except OSError as error:  # a job that failed for them would lose the artifact
            _LOG.warning("Not all reports could be written: %s. The artifact is whole.", error)


def train(job: Job, model: nn.Module, channels: Channels) -> tuple[History, Epochs]:
    """Run the loop, from the newest checkpoint if there is one.

    Returns:
        what the epochs gave, and what the epochs were made of.
    """
    config, world, device = job.config, job.world, job.device
    part = partial(job.profiler.span, "Initialization")
    with part("Checkpoint"):
        checkpoints = world.first_does(lambda: checkpoint_folder(config, job.paths))
        state = world.first_does(checkpoints.load) if checkpoints else None
    with part("Precision"):
        precision = settle_precision(job, model, state)
    epochs, kept = plan_epochs(job, channels), None
    if config.train_layers == "head":
        try:
            with part("Features"):
                kept = features.keep(job, model, channels, epochs, precision)
        except features.Stopped:
            return stopped_early(state), epochs
    if kept is None:
        with part("Loaders"):
            trained, data, prepare = model, load_data(job, channels, epochs), job.prepare(precision)
    else:
        (trained, data), prepare = kept, partial(torch.Tensor.to, device=device)
    if world.rank > 0:
        torch.manual_seed(config.seed + world.rank)  # dropout of its own; the first process goes on with its sequence
    trainer = Trainer(
        trained,
        data,
        prepare,
        config,
        device=device,
        precision=precision,
        stop=job.stop,
        checkpoints=checkpoints,
        metrics_file=job.paths.output_data_dir / "metrics.jsonl",
        world=world,
        profiler=job.profiler,
    )
    if state is not None:
        trainer.restore(state)
    with part("Debugger"):
        debugger = attach_debugger(job, trainer)
    describe_run(job, precision, data)
    with contextlib.ExitStack() as rules:
        rules.enter_context(watching.beside(debugger.folder, config, job.paths.findings_file, job.stop))
        history = trainer.fit(debugger)
        job.profiler.end_training(trainer.steps_done)
        debugger.close()
        with job.profiler.span("Finalization", "Rules"):  # their last look is waited for
            rules.close()
    return history, epochs


def settle_precision(job: Job, model: nn.Module, state: dict[str, Any] | None) -> Precision:
    """The arithmetic of the run; lays the network's weights out for it.

    A measurement may come out differently each time: a resumed run keeps the choice that it began with.
    """
    side = job.preprocessing.crop_px
    blank = torch.zeros(math.ceil(job.config.batch_size / job.world.size), 3, side, side, device=job.device)
    measured = Precision(**state["precision"]) if state else choose_precision(job, model, blank)
    precision = job.world.first_does(lambda: measured)
    _LOG.info("Device: %s, %d threads", job.device, torch.get_num_threads())
    _LOG.info("Precision: %s", precision)
    precision.place(model)
    return precision


def attach_debugger(job: Job, trainer: Trainer) -> debugging.Debugger:
    """On what is trained; one worker writes."""
    return debugging.attach(
        trainer.model,
        [trainer.loss, trainer.validation_loss],
        job.paths,
        choice=job.config.debugger if job.world.is_first else "off",
        steps_per_epoch=len(trainer.data.training),
        profiler=job.profiler,
    )


def describe_run(job: Job, precision: Precision, data: Data) -> None:
    """Tell the profiler what the loop uses."""
    config = job.config
    job.profiler.describe(
        arch=config.arch,
        batch_size=config.batch_size,
        images_per_process=math.ceil(config.batch_size / job.world.size),
        epochs=config.epochs,
        steps_per_epoch=len(data.training),
        crop_px=job.preprocessing.crop_px,
        precision=str(precision),
        num_workers=getattr(data.training, "num_workers", 0),
        train_layers=config.train_layers,
    )


def choose_precision(job: Job, model: nn.Module, blank: torch.Tensor) -> Precision:
    """`choose`, once for all trials of a tuning job that would measure the same; they are then compared alike, too."""
    config, shared = job.config, SharedFolder.of(job.paths) if job.world.size == 1 else None
    if shared is None:
        return choose(model, blank, config, job.device)
    batch = config.batch_size if job.device.type == "cuda" else 0  # a CPU takes a few images of any batch
    identity = {
        "network": [config.arch, config.train_layers, job.preprocessing.crop_px, batch],
        "asked": [config.precision, config.channels_last],
        "machine": [str(job.device), torch.get_num_threads(), torch.__version__],
    }
    return measured_once(shared, identity, lambda: choose(model, blank, config, job.device))


def put_back(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load the weights of what was trained, which may be a part of the network."""
    unknown = model.load_state_dict(state, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"{type(model).__name__} has no {', '.join(unknown)}.")


def stopped_early(state: dict[str, Any] | None) -> History:
    """What is there when the end comes before the first step of this run.

    Raises:
        TrainingError: nothing, because no earlier run left a checkpoint.
    """
    if state is None:
        raise TrainingError("SIGTERM before the first step: nothing has been learnt, so there is nothing to keep.")
    return History(state["rows"], state["best_epoch"], state["best_state"], stopped=True)


def check_config(config: TrainConfig, world: World) -> None:
    """Refuse what cannot work before any image is read.

    Raises:
        ModelError, ConfigError: see `check_network` and `check_batch`.
    """
    check_network(config)
    check_batch(config, world.size)


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
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")  # torch asks in this order
    if not shutil.which(compiler):
        problems.append(
            f"compile=on needs the C++ compiler '{compiler}', and there is none here. Set compile=off, or name another "
            "in the environment variable CXX."
        )
    if problems:
        raise ConfigError(problems)


def prepare_model(job: Job, num_classes: int) -> nn.Module:
    """A network with its first weights, the same in every process, frozen where the configuration says so."""
    config = job.config
    model = build(config.arch, num_classes)
    head = head_parameters(config.arch)
    job.world.first_does(lambda: load_first_weights(model, config, job.paths, head))
    model.to(job.device)
    job.world.same_weights(model)
    freeze(model, config.train_layers, head)
    total = sum(parameter.numel() for parameter in model.parameters())
    _LOG.info(
        "Training %d of %d weights (train_layers=%s)", count_trainable(model.parameters()), total, config.train_layers
    )
    return model


def load_first_weights(model: nn.Module, config: TrainConfig, paths: ContainerPaths, head: frozenset[str]) -> None:
    """Pretrained weights by the hyperparameter `pretrained`, in place.

    Raises:
        ModelError: they are not there, or belong to another architecture.
    """
    pretrained = find_pretrained(config.pretrained, config.arch, paths.channel("pretrained"))
    if pretrained is None:
        _LOG.info("Weights: fresh (pretrained=none), %s", config.arch)
        if config.train_layers != "all":
            _LOG.warning("train_layers=%s freezes random weights; this learns little.", config.train_layers)
    else:
        fresh = load_backbone(model, pretrained, head)
        _LOG.info("Weights: %s from %s; fresh: %s", config.arch, pretrained.source, ", ".join(fresh) or "none")


def checkpoint_folder(config: TrainConfig, paths: ContainerPaths) -> CheckpointFolder | None:
    """Where to save and resume, if at all."""
    wanted = config.checkpoints == "on" or (config.checkpoints == "auto" and paths.checkpoints_dir.is_dir())
    if not wanted:
        _LOG.info("Checkpoints: none (checkpoints=%s)", config.checkpoints)
        return None
    _LOG.info("Checkpoints: %s, the newest %d are kept", paths.checkpoints_dir, config.keep_checkpoints)
    return CheckpointFolder(paths.checkpoints_dir, keep=config.keep_checkpoints)


def describe(job: Job, channels: Channels, epochs: Epochs, history: History) -> Meta:
    """What the artifact says of itself, before the test images were seen."""
    return Meta(
        arch=job.config.arch,
        classes=channels.train.classes,
        labels=read_labels(channels.train.classes),
        preprocessing=job.preprocessing,
        hyperparameters=asdict(job.config),
        metrics={"best_epoch": history.best_epoch, **history.best},
        data={
            "train_images": sum(epochs.class_counts),
            "validation_images": len(channels.validation),
            "test_images": len(channels.test) if channels.test else 0,
            "validation_source": channels.validation_source,
            "fingerprint": epochs.identity["fingerprint"],
        },
        git_revision=git_revision(),
    )
