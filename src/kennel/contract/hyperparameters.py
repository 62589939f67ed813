"""Hyperparameters: one table with type, range, default and help, from which all else is made."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from kennel.contract.errors import ConfigError

RULES = (  # of `kennel.insight.rules`, which the driver and the trainer do not import; a test holds them together
    "VanishingGradient", "ExplodingTensor", "DeadRelu", "PoorWeightInitialization", "SaturatedActivation",
    "WeightUpdateRatio", "AllZero", "UnchangedTensor", "TensorVariance", "LossNotDecreasing", "Overfit", "Overtraining",
    "ClassImbalance", "Confusion", "CheckInputImages", "StalledTrainingRule", "SimilarAcrossRuns",
)  # fmt: skip

Value = TypeVar("Value")
_PLATFORM = ("sagemaker_", "_", "default_user_module_name")  # SageMaker's and its toolkit's own


def _hp(
    default: Any,
    *,
    about: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    form: str = "any",
    words: tuple[str, ...] = (),
) -> Any:
    metadata = {"help": about, "low": low, "high": high, "choices": choices, "form": form, "words": words}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training job can be told; every field is a hyperparameter of the same name."""

    arch: str = _hp("resnet18", about="any torchvision classification architecture by name")
    pretrained: str = _hp(
        "auto",
        choices=("auto", "channel", "image", "download", "none"),
        about="where the first weights come from; auto tries channel, image, download in that order",
    )
    train_layers: str = _hp(
        "all",
        form="all, head or a stage",
        about="train the whole network, its last layer only, or from a stage such as layer4 on",
    )
    epochs: int = _hp(10, low=1, high=10_000, about="passes over the training images")
    batch_size: int = _hp(32, low=1, high=65_536, about="training images in one step of all processes together")
    optimizer: str = _hp("adamw", choices=("adamw", "sgd"), about="update rule")
    lr: float = _hp(1e-3, low=1e-8, high=100.0, about="peak learning rate")
    weight_decay: float = _hp(0.01, low=0.0, high=10.0, about="decoupled for adamw, L2 for sgd")
    momentum: float = _hp(0.9, low=0.0, high=0.999, about="momentum of sgd")
    backbone_lr_factor: float = _hp(1.0, low=0.0, high=1.0, about="learning rate of all but the head, as a share of lr")
    schedule: str = _hp(
        "cosine",
        choices=("cosine", "onecycle", "step", "constant"),
        about="course of the learning rate after warm-up; onecycle has its own",
    )
    warmup_epochs: float = _hp(0.5, low=0.0, high=1_000.0, about="epochs of linear warm-up; not for onecycle")
    step_epochs: int = _hp(7, low=1, high=10_000, about="schedule step: epochs between two reductions")
    step_factor: float = _hp(0.1, low=0.0, high=1.0, about="schedule step: factor of each reduction")
    label_smoothing: float = _hp(0.0, low=0.0, high=0.99, about="probability mass spread evenly over all classes")
    class_weights: str = _hp(
        "none", choices=("none", "balanced"), about="weigh the loss of each class by the inverse of its image count"
    )
    sampling: str = _hp(
        "shuffled",
        choices=("shuffled", "balanced"),
        about="each image once an epoch, or drawn so that all classes are equally frequent",
    )
    mixup: float = _hp(0.0, low=0.0, high=10.0, about="alpha of mixup, the blend of two images; 0: off")
    cutmix: float = _hp(0.0, low=0.0, high=10.0, about="alpha of cutmix, a patch of another image; 0: off")
    augment: str = _hp(
        "none",
        choices=("none", "randaugment", "trivialaugment"),
        about="random colours and shapes on top of crop and mirror",
    )
    hflip: float = _hp(0.5, low=0.0, high=1.0, about="probability that a training image is mirrored")
    ema_decay: float = _hp(
        0.0, low=0.0, high=0.999999, about="decay of the moving average of the weights; 0: no average"
    )
    clip_norm: float = _hp(0.0, low=0.0, high=1_000_000.0, about="largest L2 norm of all gradients together; 0: any")
    accumulate_steps: int = _hp(1, low=1, high=1_024, about="batches whose gradients are averaged into one update")
    patience: int = _hp(
        0, low=0, high=10_000, about="stop after this many epochs without a better validation result; 0: never"
    )
    precision: str = _hp(
        "auto",
        choices=("auto", "fp32", "bf16", "fp16"),
        about="arithmetic of the forward and backward pass; auto measures",
    )
    channels_last: str = _hp(
        "auto", choices=("auto", "on", "off"), about="memory layout of images, NHWC when on; auto measures"
    )
    compile: str = _hp("off", choices=("off", "on"), about="torch.compile the network")
    validation_fraction: float = _hp(
        0.2,
        low=0.01,
        high=0.9,
        about="share cut from train, class by class, when there is no validation channel",
    )
    bad_images: str = _hp(
        "skip",
        choices=("skip", "fail"),
        about="leave out files that cannot be read (they are listed), or stop",
    )
    resize_px: int = _hp(0, low=0, high=8_192, about="shorter side before the centre crop; 0: the architecture's own")
    crop_px: int = _hp(
        0, low=0, high=8_192, about="side of the square that the network sees; 0: the architecture's own"
    )
    min_crop_area: float = _hp(
        0.25, low=0.01, high=1.0, about="smallest random crop in training, as a share of the photo"
    )
    image_cache: str = _hp(
        "auto",
        choices=("auto", "off"),
        about="keep decoded images in memory, as many as half of what is free has room for",
    )
    feature_views: int = _hp(
        1,
        low=0,
        high=10_000,
        about="for train_layers=head: random views of each image whose features are computed once and used in turn; "
        "0: new ones in every epoch",
    )
    processes: int = _hp(
        0, low=0, high=64, about="training processes on each host; 0: one for each GPU, or one without GPUs"
    )
    num_workers: int = _hp(-1, low=-1, high=256, about="loader processes of each process; -1: from the cores, 0: none")
    checkpoints: str = _hp(
        "auto", choices=("auto", "on", "off"), about="save and resume; auto: when the checkpoint folder exists"
    )
    checkpoint_minutes: float = _hp(10.0, low=0.0, high=10_000.0, about="longest time between saves inside an epoch")
    keep_checkpoints: int = _hp(3, low=2, high=1_000, about="newest checkpoints to keep")
    debugger: str = _hp("auto", choices=("auto", "off"), about="smdebug hook; off registers no hook at all")
    rules: str = _hp(
        "auto",
        form="auto, off or names",
        words=("auto", "off", *RULES),
        about="debugger rules that judge the training while it runs, such as `Overfit:patience=3,DeadRelu`",
    )
    stop_on: str = _hp(
        "none",
        form="none or names",
        words=("none", *RULES),
        about="rules that stop the training when they fire; what it has learnt is kept",
    )
    profiler: str = _hp(
        "auto",
        choices=("auto", "off", "full"),
        about="time of every step's parts and what the machine does; off measures nothing; full: system metrics even "
        "where the platform writes them",
    )
    profiler_interval_ms: int = _hp(500, low=100, high=60_000, about="between two samples of system metrics")
    profiler_start_step: int = _hp(10, low=0, high=10**9, about="first step whose operators are recorded")
    profiler_steps: int = _hp(3, low=0, high=1_000, about="steps whose operators are recorded; 0: none")
    seed: int = _hp(0, low=0, high=2**31 - 1, about="seed of the split, the order, the augmentation and the new head")


@dataclass(frozen=True)
class Hyperparameter:
    """A row of the table."""

    name: str
    type: type
    default: str | int | float
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    form: str = "any"  # of strings without choices, in words
    words: tuple[str, ...] = ()  # of a list with commas; each may have parameters behind colons

    def describe_range(self) -> str:
        """The allowed values as people write them: `1..10000`, `adamw|sgd`, or `any`."""
        if self.choices:
            return "|".join(self.choices)
        return f"{self.low:g}..{self.high:g}" if self.low is not None and self.high is not None else self.form


HYPERPARAMETERS: dict[str, Hyperparameter] = {
    f.name: Hyperparameter(
        f.name,
        type(f.default),
        f.default,  # type: ignore[arg-type]  # every field has a plain default
        f.metadata["help"],
        f.metadata["low"],
        f.metadata["high"],
        f.metadata["choices"],
        f.metadata["form"],
        f.metadata["words"],
    )
    for f in fields(TrainConfig)
}


def markdown_table() -> str:
    """The table as the documentation shows it."""
    lines = ["| hyperparameter | values | default | meaning |", "|---|---|---|---|"]
    for row in HYPERPARAMETERS.values():
        values = row.describe_range().replace("|", ", ") if row.choices else row.describe_range()
        lines.append(f"| `{row.name}` | {values} | `{row.default}` | {row.help} |")
    return "\n".join(lines) + "\n"


def canonical(raw: Mapping[str, Value]) -> dict[str, Value]:
    """Hyperparameters by the names of the table: hyphens and underscores mean the same.

    Raises:
        ConfigError: with one sentence for every name that is there in both spellings with different values.
    """
    problems: list[str] = []
    found = _canonical(raw, problems)
    if problems:
        raise ConfigError(problems)
    return {name: value for name, (_, value) in found.items()}


def _canonical(raw: Mapping[str, Value], problems: list[str]) -> dict[str, tuple[str, Value]]:
    """Of each name the spelling that came first, and the value."""
    found: dict[str, tuple[str, Value]] = {}
    for given, value in raw.items():
        first, earlier = found.setdefault(given.replace("-", "_"), (given, value))
        if _unquote(str(earlier)) != _unquote(str(value)):
            problems.append(
                f"Hyperparameter '{first}' has value '{_unquote(str(earlier))}' and, as '{given}', value "
                f"'{_unquote(str(value))}'. The two names mean the same: keep one."
            )
    return found


def parse_hyperparameters(*layers: Mapping[str, str]) -> TrainConfig:
    """Turn the strings of hyperparameters.json into a checked configuration.

    Values of later layers replace those of earlier ones. Hyphens and underscores mean the same. Names that belong to
    the platform (`sagemaker_*`, `_tuning_objective_metric`) are passed over.

    Raises:
        ConfigError: with one sentence for every unknown name and every bad value.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    merged: dict[str, tuple[str, str]] = {}
    for layer in layers:
        merged |= _canonical(layer, problems)
    for name, (given, text) in merged.items():
        if name.startswith(_PLATFORM):
            continue
        row = HYPERPARAMETERS.get(name)
        if row is None:
            problems.append(_unknown(given))
            continue
        try:
            values[name] = _parse_value(row, _unquote(text))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    return TrainConfig(**values)


def _unquote(text: str) -> str:
    """The SDK writes strings as JSON ('"adamw"'), the console and the CLI as they are ('adamw')."""
    if text.startswith('"'):
        try:
            decoded = json.loads(text)
        except ValueError:
            return text
        return decoded if isinstance(decoded, str) else text
    return text


def _parse_value(row: Hyperparameter, text: str) -> str | int | float:
    bad = f"Hyperparameter '{row.name}' has value '{text}'."
    if row.type is str:
        if row.choices and text not in row.choices:
            raise ValueError(f"{bad} Use one of {', '.join(row.choices)}.")
        unknown = [word for part in text.split(",") if (word := part.partition(":")[0].strip()) not in row.words]
        if row.words and unknown:
            close = difflib.get_close_matches(unknown[0], row.words, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"Use {', '.join(row.words)}."
            raise ValueError(f"{bad} '{unknown[0]}' is none of its words. {hint}")
        return text
    low, high = (-math.inf if row.low is None else row.low), (math.inf if row.high is None else row.high)
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{bad} Use a number in {row.describe_range()}.") from None
    if not math.isfinite(number) or not low <= number <= high:
        raise ValueError(f"{bad} Use a number in {row.describe_range()}.")
    if row.type is int and not number.is_integer():
        raise ValueError(f"{bad} Use a whole number in {row.describe_range()}.")
    return int(number) if row.type is int else number


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), HYPERPARAMETERS, n=1)
    hint = f"Did you mean '{close[0]}'?" if close else f"Known names: {', '.join(HYPERPARAMETERS)}."
    return f"Unknown hyperparameter '{name}'. {hint}"
