"""The network: any torchvision classifier, its head, and where its first weights come from."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from kennel.classifier.data.vision import torchvision
from kennel.contract.errors import ModelError

BAKED_WEIGHTS_VARIABLE = "KENNEL_PRETRAINED_DIR"  # set in the image; holds <arch>.pth files baked in at build time
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Pretrained:
    """First weights and a phrase for the log that says where they are from."""

    state: dict[str, torch.Tensor]
    source: str


def architectures() -> list[str]:
    """Names of every classification network that torchvision builds."""
    return torchvision.models.list_models(module=torchvision.models)  # type: ignore[no-any-return]


def build(arch: str, num_classes: int) -> nn.Module:
    """A network with fresh weights and a head for this many classes.

    Raises:
        ModelError: torchvision has no classifier of that name.
    """
    known = architectures()
    if arch not in known:
        close = difflib.get_close_matches(arch, known, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(known)}."
        raise ModelError(f"Unknown architecture '{arch}'. {hint}")
    options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if arch in ("googlenet", "inception_v3"):  # their side heads exist only to help training from scratch
        options |= {"aux_logits": False, "init_weights": True}
    return torchvision.models.get_model(arch, **options)  # type: ignore[no-any-return]


# What first weights are made with.
_DRAWS = (
    *(getattr(nn.init, name) for name in ("normal_", "uniform_", "kaiming_uniform_")),
    *(getattr(torch.Tensor, name) for name in ("normal_", "uniform_", "erfinv_")),
)


class _ShapesOnly(TorchFunctionMode):
    """New weights without memory. Numbers stay real, unlike under `torch.device("meta")`: RegNet computes widths."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _DRAWS:  # nothing to draw into; torch would import its compiler, 140 MB, to find that out
            return args[0] if args else (kwargs or {})["tensor"]
        meta = {"device": "meta"} if func in (torch.empty, torch.zeros, torch.ones) else {}
        return func(*args, **{**(kwargs or {}), **meta})


def outline(arch: str, num_classes: int = 2) -> nn.Module:
    """A network's modules with the shapes of its weights; nothing is allocated, and nothing can be computed.

    Raises:
        ModelError: torchvision has no classifier of that name.
    """
    with _ShapesOnly():
        return build(arch, num_classes)


def head_parameters(arch: str) -> frozenset[str]:
    """Names of the parameters whose shape depends on the number of classes: the head, whatever it is called."""
    two, three = outline(arch, 2), outline(arch, 3)
    sizes = {name: tensor.shape for name, tensor in three.named_parameters()}
    return frozenset(name for name, tensor in two.named_parameters() if tensor.shape != sizes[name])


def load_backbone(model: nn.Module, pretrained: Pretrained, head: frozenset[str]) -> list[str]:
    """Copy pretrained weights into a network, all but a head of another shape.

    Returns:
        the names that kept their fresh weights; the head's, or none when the head fitted as well.

    Raises:
        ModelError: the weights lack a backbone tensor or one has another shape.
    """
    own = model.state_dict()
    state = {name.removeprefix("module."): tensor for name, tensor in pretrained.state.items()}
    missing = [name for name in own if name not in state and not _optional(name, head)]
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and name not in head and state[name].shape != own[name].shape
    ]
    if missing or wrong:
        what = f"lack {len(missing)} tensors such as '{missing[0]}'" if missing else f"have {wrong[0]}"
        raise ModelError(
            f"The pretrained weights from {pretrained.source} {what}. They belong to another architecture than "
            f"{type(model).__name__}: set 'arch' to theirs, or give the weights of this one."
        )
    usable = {name: state[name] for name in own if name in state and state[name].shape == own[name].shape}
    if not head <= usable.keys():  # half a foreign head is no head
        usable = {name: tensor for name, tensor in usable.items() if name not in head}
    model.load_state_dict(usable, strict=False)
    return [name for name in own if name not in usable and name in head]


def _optional(name: str, head: frozenset[str]) -> bool:
    return name in head or name.endswith("num_batches_tracked")  # a counter that old state dicts do not have


def freeze_backbone(model: nn.Module, head: frozenset[str]) -> None:
    """Leave only the head's parameters trainable."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in head)


def freeze(model: nn.Module, train_layers: str, head: frozenset[str]) -> None:
    """Leave trainable what the hyperparameter `train_layers` names, and freeze the rest.

    Args:
        model: the bare network.
        train_layers: "all"; "head"; or a module such as `layer4` or `features.14`: all that is registered from it on,
            which in torchvision's networks is the order of the forward pass. The head is always trained.
        head: names of the head's parameters.

    Raises:
        ModelError: the network has no such module.
    """
    if train_layers == "all":
        model.requires_grad_(True)
        return
    if train_layers == "head":
        freeze_backbone(model, head)
        return
    names = [name for name, _ in model.named_parameters()]
    first = next((i for i, name in enumerate(names) if name.startswith(f"{train_layers}.")), None)
    if first is None:
        raise ModelError(_unknown_stage(model, train_layers))
    freeze_backbone(model, head | frozenset(names[first:]))


def check_train_layers(arch: str, train_layers: str) -> None:
    """Refuse a `train_layers` that the architecture does not know, before anything is read or allocated.

    Raises:
        ModelError: with the nearest name and the architecture's stages.
    """
    freeze(outline(arch), train_layers, frozenset())


def stage_names(model: nn.Module) -> list[str]:
    """The parts of a network that people name: its children with weights, and those of a large `Sequential`.

    ResNet18: conv1, bn1, layer1 to layer4, fc. MobileNetV2: features.0 to features.18, classifier.
    """
    children = {name: child for name, child in model.named_children() if any(True for _ in child.parameters())}
    if len(children) > 3:
        return list(children)
    found: list[str] = []
    for name, child in children.items():
        parts = [f"{name}.{part}" for part, module in child.named_children() if any(True for _ in module.parameters())]
        found += parts if len(parts) > 3 else [name]
    return found


def _unknown_stage(model: nn.Module, given: str) -> str:
    modules = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
    close = difflib.get_close_matches(given, ["all", "head", *modules], n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return (
        f"Hyperparameter 'train_layers' has value '{given}', which {type(model).__name__} does not have. {hint}"
        f"Use all, head, or a stage: {', '.join(stage_names(model))}."
    )


def set_training_mode(model: nn.Module) -> None:
    """Training mode, but frozen modules stay in evaluation mode, so their batch statistics do not drift."""
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def find_pretrained(
    choice: str, arch: str, channel: Path | None, environ: Mapping[str, str] = os.environ
) -> Pretrained | None:
    """First weights by the hyperparameter `pretrained`; None only when it says `none`.

    Args:
        choice: auto, channel, image, download or none. auto takes the first of channel, image and download that
            there is.
        arch: architecture name.
        channel: folder of the `pretrained` channel, if the job has one.
        environ: where the image says what was baked in.

    Raises:
        ModelError: the chosen source is not there or cannot be read. There is no silent training from scratch.
    """
    if choice == "none":
        return None
    baked = (
        Path(environ.get(BAKED_WEIGHTS_VARIABLE, "")) / f"{arch}.pth" if environ.get(BAKED_WEIGHTS_VARIABLE) else None
    )
    if choice == "channel" and channel is None:
        raise ModelError(
            "pretrained=channel, but the job has no channel named 'pretrained'. Add one with a weights file."
        )
    if choice == "image" and not (baked and baked.exists()):
        raise ModelError(f"pretrained=image, but no weights for '{arch}' were baked into this image ({baked}).")
    if channel is not None and choice in ("auto", "channel"):
        path = _weights_file(channel)
        return Pretrained(read_weights(path), f"channel 'pretrained', file {path.name}")
    if baked is not None and baked.exists() and choice in ("auto", "image"):
        return Pretrained(read_weights(baked), f"the image, file {baked.name}")
    return download(torchvision.models.get_model_weights(arch).DEFAULT)


def _weights_file(folder: Path) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.suffix in _WEIGHT_SUFFIXES)
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise ModelError(
            f"Channel 'pretrained' must hold exactly one weights file ({', '.join(_WEIGHT_SUFFIXES)}); found: {found}."
        )
    return files[0]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict without running code that may be in the file.

    Raises:
        ModelError: damaged, or more than a state dict of tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here, all of which mean the same to the user
        raise ModelError(f"Cannot read the weights in {path}: {str(error).splitlines()[0]}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} is not a state dict (names with tensors). Save model.state_dict() instead.")
    return state


def download(weights: torchvision.models.WeightsEnum) -> Pretrained:
    """Published weights, fetched once into torch's cache and held against the digest in their name.

    Raises:
        ModelError: they cannot be fetched, or are not what was published.
    """
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's word for a wrong digest
        raise ModelError(
            f"Cannot download {weights} from {weights.url}: {error}. Add a channel 'pretrained' with the file, build "
            "an image with the weights baked in, or set pretrained=none to train from scratch."
        ) from error
    return Pretrained(state, f"torchvision's download, {weights}")
