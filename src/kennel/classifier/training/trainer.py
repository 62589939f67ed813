"""The training loop and all of its state: what a checkpoint holds is what `state` gives and `restore` takes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kennel.classifier.data.augment import mixing_for
from kennel.classifier.data.loader import Batch, EpochBatches
from kennel.classifier.debugger import hook as debugging
from kennel.classifier.evaluation.evaluate import Evaluation, evaluate
from kennel.classifier.network.ema import ema_for
from kennel.classifier.network.model import head_parameters, set_training_mode
from kennel.classifier.network.precision import Precision
from kennel.classifier.network.recipe import (
    accumulation,
    loss_for,
    optimizer_for,
    out_of_patience,
    scheduler_for,
    updates_per_epoch,
)
from kennel.classifier.processes.distributed import ALONE, World
from kennel.classifier.processes.stop import StopSignal
from kennel.classifier.profiler.profiler import OFF, Profiler
from kennel.classifier.profiler.timeline import EVAL, TRAIN
from kennel.classifier.training.checkpoints import CheckpointFolder
from kennel.classifier.training.history import History, Sums
from kennel.classifier.training.progress import Progress
from kennel.contract.errors import ConfigError, TrainingError
from kennel.contract.files import write_text
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.metrics import metric_line

_LOG = logging.getLogger(__name__)
# What may differ between a run and its resumption, because the weights do not depend on it.
_FREE = (
    "num_workers",
    "checkpoints",
    "checkpoint_minutes",
    "keep_checkpoints",
    "debugger",
    "rules",
    "stop_on",
    "bad_images",
    "image_cache",
)


class Batches(Protocol):
    """What a loader is to the loop; a batch is images (or their features) and targets."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Data:
    """The batches of a run, and what makes two runs' data the same."""

    training: Batches
    steps: EpochBatches  # which images make up the batches of `training`
    validation: Batches
    class_counts: list[int]
    identity: dict[str, Any]


class Trainer:
    """Epochs of steps, each followed by a validation; can stop after any step and go on from there.

    Args:
        model: what is trained, on `device`; all processes have the same weights.
        data: the batches; those of `training` are this process's share of each step.
        prepare: from a batch as the loader gives it to the network's input.
        config: the recipe.
        device: where `model` lies.
        precision: the arithmetic.
        stop: asks for an end.
        checkpoints: where the first process saves; None: nowhere.
        metrics_file: where the first process writes one line an epoch.
        world: the processes that train together.
        profiler: measures the parts of every step.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        prepare: Callable[[torch.Tensor], torch.Tensor],
        config: TrainConfig,
        *,
        device: torch.device,
        precision: Precision,
        stop: StopSignal,
        checkpoints: CheckpointFolder | None,
        metrics_file: Path,
        world: World = ALONE,
        profiler: Profiler = OFF,
    ) -> None:
        self.profiler = profiler
        self.model, self.data, self.prepare, self.config = model, data, prepare, config
        self.device, self.precision, self.scaler = device, precision, precision.scaler()
        self.stop, self.checkpoints, self.metrics_file, self.world = stop, checkpoints, metrics_file, world
        self.loss = loss_for(config, data.class_counts).to(device)
        self.validation_loss = nn.CrossEntropyLoss()
        self.mixing = mixing_for(config, len(data.class_counts))
        self.optimizer = optimizer_for(model, config, head_parameters(config.arch))
        updates = updates_per_epoch(len(data.training), config.accumulate_steps)
        self.scheduler = scheduler_for(self.optimizer, config, updates)
        self.average = ema_for(model, config)  # a copy: made before any hook is on the network
        self.parallel = world.wrap(model, device)
        self.forward = compiled(self.parallel) if config.compile == "on" else self.parallel
        self.history, self.sums, self.progress = History(), Sums(), Progress()
        self.epoch, self.batches_done = 1, 0  # the epoch is counted from 1, the batches are those of this epoch
        self._coming: Iterator[Batch] | None = None  # batches of the next epoch, already begun
        self._stopping = self._save_is_due = False  # what the signal and the clock say, agreed on by all processes
        self._saved_at = time.monotonic()

    def fit(self, debugger: debugging.Debugger) -> History:
        """Train to the last epoch, or to the first step after `stop` became true.

        Raises:
            TrainingError: the loss was not finite before any epoch gave usable weights.
        """
        while self.epoch <= self.config.epochs:
            debugger.train_mode()
            self._train_epoch()
            if self._stopping:
                break
            if self.epoch < self.config.epochs:  # its first batches are made while this epoch is judged
                self._coming = self._begin(self.epoch + 1)
            debugger.evaluation_mode()
            with self.profiler.span("Validation", epoch=self.epoch):
                evaluation = self._validate()
            if self._stopping:  # the validation was cut short and says nothing; it is done again after a resumption
                break
            if not self._end_epoch(evaluation):
                return self.history
        if self._stopping:
            self.history.stopped = True
            self._save()
            where = f"epoch {self.epoch} after {self.batches_done} of {len(self.data.training)} steps"
            _LOG.warning("%s: stopped in %s.", "A rule fired" if self.stop.by_rule else "SIGTERM", where)
        return self.history

    def _begin(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        self.data.steps.epoch, self.data.steps.skip = epoch, skip
        return self.profiler.begin(self.data.training)

    def _train_epoch(self) -> None:
        set_training_mode(self.model)
        batches = len(self.data.training)
        if self.batches_done == batches:
            return
        if self._coming is None:
            self._coming = self._begin(self.epoch, skip=self.batches_done)
        coming, self._coming = self._coming, None
        before, started = self.sums.seconds, time.perf_counter()
        for images, targets in self.profiler.steps(coming, TRAIN, self.steps_done, self.epoch):
            updated = self._step(images, targets)
            self.profiler.end_step()
            self.batches_done += 1
            self.sums.seconds = before + time.perf_counter() - started
            rate = self.sums.images / self.sums.seconds
            self.progress.show(self._position(), self.batches_done, batches, self.sums.loss / self.sums.images, rate)
            if not updated:
                continue  # gradients are half added up: no moment to stop or to save
            if self._stopping:
                break
            if self._save_is_due and self.batches_done < batches:  # after the last batch the epoch's own save is near
                self._save()
        self.progress.clear()

    def _step(self, images: torch.Tensor, targets: torch.Tensor) -> bool:
        """Learn from a batch; True when the weights have changed, which `accumulate_steps` makes rarer."""
        sizes = self.data.steps.sizes
        averaged, is_last = accumulation(self.batches_done, sizes, self.config.accumulate_steps)
        span = self.profiler.span
        with span("HostToDevice"):
            wanted = targets.to(self.device, non_blocking=True)
            inputs, goal = self.prepare(images), wanted
            if self.mixing is not None:
                inputs, goal = self.mixing(inputs, wanted, self.steps_done)
            share = self._share(goal)
        with self._exchange(is_last):
            with span("Forward"):
                with self.precision.autocast():
                    logits = self.forward(inputs)
                loss = self.loss(logits.float(), goal)
            with span("Backward(post-forward)", "Backward"):
                # Gradients are averaged over the processes, whose shares of a step may differ.
                self.scaler.scale(loss * (share * self.world.size / averaged)).backward()
        if is_last:
            with span("Optimizer"):
                self._update()
        late = self.world.is_first and time.monotonic() - self._saved_at > 60 * self.config.checkpoint_minutes
        with span("Synchronize"):
            stops, lates, summed, hits = self.world.sums(
                bool(self.stop),
                late,
                float(loss.detach()) * share,  # waits for the GPU; once a step
                int((logits.detach().argmax(1) == wanted).sum()),
            )
        self._stopping, self._save_is_due = stops > 0, lates > 0
        self.sums.images += sizes[self.batches_done]
        self.sums.loss += summed
        self.sums.hits += int(hits)
        return is_last

    def _share(self, goal: torch.Tensor) -> float:
        """Images of the step that this process's mean loss stands for: by their class weights, where there are any."""
        weights = self.loss.weight
        if weights is None or goal.is_floating_point() or self.world.size == 1:
            return len(goal)
        own = float(weights[goal].sum())
        return self.data.steps.sizes[self.batches_done] * own / self.world.sums(own)[0]

    def _exchange(self, is_last: bool) -> AbstractContextManager[None]:
        """Around forward and backward: gradients travel between processes only for an update."""
        if is_last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()

    def _update(self) -> None:
        if self.config.clip_norm > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    @property
    def judged(self) -> nn.Module:
        """The weights that are validated and kept: the moving average where there is one."""
        return self.model if self.average is None else self.average.module

    def _validate(self) -> Evaluation:
        network = self.judged.eval()
        self.world.same_buffers(network)

        def logits_of(images: torch.Tensor) -> torch.Tensor:
            with self.profiler.span("HostToDevice"):
                inputs = self.prepare(images)
            with self.profiler.span("Forward"), self.precision.autocast():
                return network(inputs)  # type: ignore[no-any-return]

        first = (self.epoch - 1) * len(self.data.validation)
        batches = self._until_stop(self.profiler.steps(self.data.validation, EVAL, first, self.epoch))
        evaluation = evaluate(logits_of, batches, watch=self.validation_loss, world=self.world)
        self._stopping = self.world.sums(bool(self.stop))[0] > 0
        return evaluation

    def _until_stop(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield batch
            if self.stop:
                return

    def _end_epoch(self, evaluation: Evaluation) -> bool:
        """Report, remember and save an epoch; False when there is no point in another one."""
        row = self.sums.row() | {
            "validation_loss": evaluation.loss,
            "validation_accuracy": evaluation.accuracy,
        }
        _LOG.info(metric_line(row, epoch=self._position()))
        if not math.isfinite(row["train_loss"] + row["validation_loss"]):
            self._diverged(row)
            return False
        self.history.add(row, self.judged)
        if self.world.is_first:
            self._write_metrics()
        self.epoch, self.batches_done, self.sums = self.epoch + 1, 0, Sums()
        self._save()
        if out_of_patience(self.epoch - 1, self.history.best_epoch, self.config.patience):
            best = self.history.best_epoch
            _LOG.info("No epoch since %d was better: training ends here (patience=%d).", best, self.config.patience)
            return False
        return True

    def _write_metrics(self) -> None:
        try:
            write_text(self.metrics_file, self.history.json_lines())
        except OSError as error:  # what was learnt is worth more; the log has the figures
            _LOG.warning("%s cannot be written: %s", self.metrics_file.name, error)

    def _diverged(self, row: dict[str, float]) -> None:
        what = (
            f"Epoch {self.epoch} ended with train_loss={row['train_loss']} and validation_loss="
            f"{row['validation_loss']}: the weights have diverged. Lower lr (now {self.config.lr:g}) or raise "
            f"warmup_epochs (now {self.config.warmup_epochs:g})."
        )
        if not self.history.rows:
            raise TrainingError(what)
        _LOG.warning("%s The weights of epoch %d are kept.", what, self.history.best_epoch)

    def _position(self) -> str:
        return f"{self.epoch}/{self.config.epochs}"

    def _save(self) -> None:
        if self.checkpoints is None:
            return
        self._saved_at = time.monotonic()
        with self.profiler.span("Checkpoint"):
            self._save_to(self.checkpoints)

    def _save_to(self, checkpoints: CheckpointFolder) -> None:
        state = self.state()
        if not self.world.is_first:
            return
        try:
            path = checkpoints.save(state, self.steps_done)
        except OSError as error:  # training goes on: what it has learnt so far is worth more than this file
            _LOG.warning("No checkpoint at step %d: %s. Earlier ones are untouched.", self.steps_done, error)
        else:
            _LOG.debug("Checkpoint: %s", path.name)

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the first epoch began."""
        return (self.epoch - 1) * len(self.data.training) + self.batches_done

    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be gone on with."""
        free = (*_FREE, *(name for name in asdict(self.config) if name.startswith("profiler")))
        config = {name: value for name, value in asdict(self.config).items() if name not in free}
        return config | self.data.identity | {"processes in all": self.world.size}

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; every process has to ask for it."""
        on_gpu = self.device.type == "cuda"
        return {
            "identity": self.identity(),
            "epoch": self.epoch,
            "batches_done": self.batches_done,
            "sums": asdict(self.sums),
            "rows": self.history.rows,
            "best_epoch": self.history.best_epoch,
            "best_state": self.history.best_state,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "precision": asdict(self.precision),
            "rng": self.world.gather(torch.get_rng_state()),
            "rng_cuda": self.world.gather(torch.cuda.get_rng_state(self.device)) if on_gpu else [],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: it belongs to a run with other hyperparameters, classes or images.
        """
        mine, its = self.identity(), state["identity"]
        different = [n for n in sorted(mine.keys() | its.keys()) if mine.get(n) != its.get(n)]
        if different:
            raise ConfigError(
                [f"The checkpoint was made with {n}={its.get(n)!r}, this run has {mine.get(n)!r}." for n in different]
                + ["Give the same values, another checkpoint folder, or checkpoints=off."]
            )
        self.epoch, self.batches_done = state["epoch"], state["batches_done"]
        self.sums = Sums(**state["sums"])
        self.history = History(state["rows"], state["best_epoch"], state["best_state"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["rng"][self.world.rank])
        if state["rng_cuda"]:
            torch.cuda.set_rng_state(state["rng_cuda"][self.world.rank], self.device)
        _LOG.info("Resumed at epoch %d, step %d of %d", self.epoch, self.batches_done, len(self.data.training))


def compiled(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network's forward pass through torch.compile, which works at the first call and at every new size of batch.

    Raises:
        TrainingError: from the call, where torch cannot compile it.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    forward = torch.compile(network)

    def run(inputs: torch.Tensor) -> torch.Tensor:
        try:
            return forward(inputs)  # type: ignore[no-any-return]
        except TorchDynamoException as error:
            what = next(line for line in str(error).splitlines() if line.strip()).rstrip(".")
            raise TrainingError(f"compile=on: torch cannot compile the network ({what}). Set compile=off.") from error

    return run
