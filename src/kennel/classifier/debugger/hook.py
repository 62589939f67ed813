"""smdebug's hook: what it saves and when. With `tensor_files.py` the only file of the trainer that imports it.

With a `debughookconfig.json` (the request's DebugHookConfig) the hook does what that says. Without one it is cheap and
useful by itself: losses often, and a few reductions of gradients, weights and activations at an interval that follows
the steps in an epoch, because smdebug's own default (every 500 steps) is longer than most fine-tunings.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kennel.classifier.debugger.diagnostics import Diagnostics
from kennel.classifier.profiler.profiler import OFF, Profiler
from kennel.contract.paths import ContainerPaths

_LOG = logging.getLogger(__name__)
_LOSSES_PER_EPOCH = 20
_REDUCTIONS_PER_EPOCH = 2  # a save of all reductions of ResNet18 is 0.1 MB; raw tensors would be 86 MB
_STEPS_BETWEEN_REDUCTIONS = 25  # at least; bench/train.py, row smdebug, shows what the default costs
_IMAGES_REDUCED = 8  # of a batch; their activations tell as much as those of all, which would be most of the work


class Debugger:
    """A hook, or none: with none every call does nothing, and the network carries no hook at all."""

    def __init__(self, hook: Any = None, folder: Path | None = None) -> None:
        self._hook = hook
        self.folder = folder

    def train_mode(self) -> None:
        """What follows are training steps."""
        self._set_mode("TRAIN")

    def evaluation_mode(self) -> None:
        """What follows are validation steps."""
        self._set_mode("EVAL")

    def _set_mode(self, name: str) -> None:
        if self._hook is not None:
            import smdebug.pytorch as smd

            self._hook.set_mode(smd.modes[name])

    def close(self) -> None:
        """Write what is buffered and mark the trial as ended."""
        if self._hook is None:
            return
        atexit.unregister(self._hook._cleanup)  # the same once more, which a full disk would make a traceback
        try:
            self._hook.close()
        except OSError as error:
            _LOG.warning("The trial could not be marked as ended: %s", error)


def attach(
    model: nn.Module,
    losses: Sequence[nn.Module],
    paths: ContainerPaths,
    *,
    choice: str,
    steps_per_epoch: int,
    profiler: Profiler = OFF,
) -> Debugger:
    """Register smdebug's hook on a network and its loss modules.

    Args:
        model: the network; registered before it is wrapped by anything else.
        losses: loss modules whose outputs are saved.
        paths: where the configuration may be, and where tensors go without one.
        choice: the hyperparameter `debugger`; "off" registers nothing.
        steps_per_epoch: decides the default intervals.
        profiler: measures the hook.
    """
    if choice == "off":
        return Debugger()
    os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")  # read once, when smdebug is imported
    os.environ["SMPROFILER_CONFIG_PATH"] = os.devnull  # its own profiler would write into the files of ours
    try:
        import smdebug.pytorch as smd
    except ImportError as error:
        _LOG.warning("The debugger is off: smdebug cannot be imported (%s).", error)
        return Debugger()
    from kennel.classifier.debugger.tensor_files import TensorFiles

    config_file = paths.debug_hook_config_file
    hook = (
        smd.Hook.create_from_json_file(str(config_file))
        if config_file.exists()
        else _default_hook(smd, paths, steps_per_epoch)
    )
    if hook is None:
        _LOG.warning("The debugger is off: smdebug could not start its hook.")
        return Debugger()
    # smdebug swallows its own errors only under AWS's default configuration; a debugger must never end a training.
    hook.has_default_configuration = lambda: True
    files = TensorFiles(hook)
    to_numpy = hook._make_numpy_array  # numpy has no bfloat16, which mixed precision gives the activations
    hook._make_numpy_array = lambda value: to_numpy(value.float() if _is_bfloat16(value) else value)
    if profiler.is_on:
        _measure(hook, profiler)
    hook.register_module(model)
    diagnostics = Diagnostics(hook, model, profiler, is_off=lambda: files.is_off)
    for loss in losses:
        hook.register_loss(loss)
    diagnostics.register_losses(losses)
    source = config_file.name if config_file.exists() else "Kennel's default"
    _LOG.info("Debugger: smdebug hook by %s, tensors in %s", source, hook.out_dir)
    return Debugger(hook, Path(hook.out_dir))


def _measure(hook: Any, profiler: Profiler) -> None:
    """Let the profiler see what the hook takes; before it is registered, since torch keeps its bound methods."""
    for name in ("forward_pre_hook", "forward_hook", "fhook"):
        setattr(hook, name, profiler.hook(getattr(hook, name)))
    for_gradient = hook.backward_hook
    hook.backward_hook = lambda name: profiler.hook(for_gradient(name), backward=True)


def _is_bfloat16(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16


def _default_hook(smd: Any, paths: ContainerPaths, steps_per_epoch: int) -> Any:
    folder = paths.output_data_dir / "tensors"
    shutil.rmtree(folder, ignore_errors=True)  # smdebug refuses a folder that exists; this one is ours
    every_loss = max(1, steps_per_epoch // _LOSSES_PER_EPOCH)
    every_reduction = max(_STEPS_BETWEEN_REDUCTIONS, steps_per_epoch // _REDUCTIONS_PER_EPOCH)
    evaluation_off = smd.SaveConfigMode(save_interval=1, end_step=0)
    reductions = smd.SaveConfig(
        {
            smd.modes.TRAIN: smd.SaveConfigMode(save_interval=every_reduction),
            smd.modes.EVAL: evaluation_off,
        }
    )
    hook = smd.Hook(
        out_dir=str(folder),
        save_config=reductions,
        reduction_config=smd.ReductionConfig(reductions=["min", "max", "mean"], abs_reductions=["mean"], norms=["l2"]),
        include_collections=["losses", "gradients", "weights", "biases", "activations"],
    )
    reduction_of = hook._get_reduction_of_data
    hook._get_reduction_of_data = lambda reduction, value, name, absolute: reduction_of(
        reduction, value[:_IMAGES_REDUCED] if "_output_" in name else value, name, absolute
    )
    hook.get_collection("activations").include("relu_output|sigmoid_output|tanh_output")
    hook.get_collection("losses").save_config = smd.SaveConfig(
        {
            smd.modes.TRAIN: smd.SaveConfigMode(save_interval=every_loss),
            smd.modes.EVAL: smd.SaveConfigMode(save_interval=1),
        }
    )
    return hook
