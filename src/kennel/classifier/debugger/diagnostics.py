"""Small tensors beside smdebug's own, for rules that its reductions cannot serve.

They are written at steps at which the hook saves anyway, and cost little of one: labels and predictions of the batch,
the images' mean of each colour channel, how active each node in front of a ReLU, tanh or sigmoid is and how much its
inputs vary, and a few values of every weight that is trained.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from kennel.classifier.profiler.profiler import OFF, Profiler

_LOG = logging.getLogger(__name__)
_IMAGES = 8  # of a batch, whose activations are looked at: as many as the hook's own reductions are of
_VALUES = 256  # of a node, at least, where the batch has them: the share of active ones is to tell 1 % from none
_SAMPLE = 256  # values of a weight tensor
_PIXELS_APART = 4  # a mean of every 16th pixel is as good as that of all
_TANH, _SIGMOID = (-9.4999, 9.4999), (-23.0, 16.99999)  # SaturatedActivation's defaults: gradients above 1e-7
COLLECTIONS = {  # what is written, for smdebug's readers: collection and the names of its tensors
    "labels": "^labels$",
    "predictions": "^predictions$",
    "input_image": "^input_image/",
    "activity": "^activity/",
    "variance": "^variance/",
    "sample": "^sample/",
}
Activity = Callable[[torch.Tensor], torch.Tensor]


def _activity_of(module: nn.Module) -> tuple[str, Activity] | None:
    """The kind of an activation, and which of its inputs count as active."""
    if isinstance(module, nn.ReLU | nn.ReLU6):
        return "relu", lambda inputs: inputs > 0
    if isinstance(module, nn.Tanh):
        return "tanh", lambda inputs: (inputs > _TANH[0]) & (inputs < _TANH[1])
    if isinstance(module, nn.Sigmoid):
        return "sigmoid", lambda inputs: (inputs > _SIGMOID[0]) & (inputs < _SIGMOID[1])
    return None


class Diagnostics:
    """Hooks on a network and its losses that write through smdebug's hook."""

    def __init__(
        self, hook: Any, model: nn.Module, profiler: Profiler = OFF, *, is_off: Callable[[], bool] = lambda: False
    ) -> None:
        """Register on the network, after smdebug has: its hook opens the step's file.

        Args:
            hook: smdebug's.
            model: the network.
            profiler: measures what this takes.
            is_off: whether the hook has given up.
        """
        self._hook, self._is_off = hook, is_off
        self._do = profiler.hook(self._guarded)
        self._model_name = type(model).__name__
        self._calls: Counter[str] = Counter()  # of each module in this step
        for name, regex in COLLECTIONS.items():
            hook.get_collection(name).include(regex)
        model.register_forward_pre_hook(self._at_start)
        for name, module in model.named_modules():
            found = _activity_of(module)
            if found:
                module.register_forward_pre_hook(self._at_activation(name, *found))

    def register_losses(self, losses: Sequence[nn.Module]) -> None:
        """Take labels and predictions from the losses' inputs."""
        for loss in losses:
            loss.register_forward_hook(self._at_loss)

    def _saving(self, *, more_than_losses: bool) -> bool:
        """Whether the hook writes in this step; `more_than_losses`: at its longer interval, in training."""
        if self._is_off():
            return False
        collections = {one.name for one in self._hook._get_collections_to_save_for_step()}
        if more_than_losses:
            return self._hook.mode.name != "EVAL" and bool(collections - {"losses"})
        return bool(collections)

    def _write(self, name: str, value: torch.Tensor) -> None:
        self._hook._write_raw_tensor_simple(name, value.detach())

    @staticmethod
    def _guarded(act: Callable[[], None]) -> None:
        """A debugger must never end a training."""
        try:
            act()
        except Exception as error:
            _LOG.warning("The debugger could not save for its rules: %s: %s", type(error).__name__, error)

    def _at_start(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._calls.clear()

        def act() -> None:
            images = inputs[0]
            if self._hook.mode.name != "EVAL" and images.dim() == 4 and self._saving(more_than_losses=False):
                pixels = images[:, :, ::_PIXELS_APART, ::_PIXELS_APART]
                self._write("input_image/mean", pixels.mean(dim=(2, 3), dtype=torch.float32))
            if self._saving(more_than_losses=True):
                self._write_samples(model)

        self._do(act)

    def _write_samples(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name.endswith("weight"):
                flat = parameter.detach().flatten()  # of another memory format this copies; saves are rare
                apart = max(1, flat.numel() // _SAMPLE)
                self._write(f"sample/{self._model_name}_{name}", flat[::apart][:_SAMPLE].float())

    def _at_activation(self, name: str, kind: str, active: Activity) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            def act() -> None:
                if not self._saving(more_than_losses=True):
                    return
                call, self._calls[name] = self._calls[name], self._calls[name] + 1
                values = inputs[0].detach()
                a_node = max(1, values.shape[2:].numel())  # values of an image; of small maps it takes more images
                values = values[: max(_IMAGES, _VALUES // a_node)].float()
                nodes = tuple(axis for axis in range(values.dim()) if axis != 1)
                side = "output" if kind == "relu" else "input"  # of which AWS's rules speak
                self._write(f"activity/{kind}/{name}_{side}_{call}", active(values).float().mean(dim=nodes))
                self._write(f"variance/{kind}/{name}_input_{call}", values.var(correction=0))

            self._do(act)  # now: the module may overwrite its input

        return before

    def _at_loss(self, _loss: nn.Module, inputs: tuple[Any, ...], _output: torch.Tensor) -> None:
        def act() -> None:
            logits, labels = inputs[0], inputs[1]
            if labels.is_floating_point() or not self._saving(more_than_losses=False):
                return  # labels that mixup has blended are none
            self._write("labels", labels.int())
            self._write("predictions", logits.argmax(dim=1).int())

        self._do(act)
