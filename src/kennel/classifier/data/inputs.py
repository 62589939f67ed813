"""Where the images of each channel are, however the platform delivers them, and which classes there are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from kennel.classifier.data.pipe import spool
from kennel.contract.errors import DataError
from kennel.contract.layout import TEST, TRAIN, VALIDATION, nested_channels, visible
from kennel.contract.manifest import find_list
from kennel.contract.paths import ChannelConfig, ContainerPaths

_LOG = logging.getLogger(__name__)
CLASSES, PRETRAINED = "classes", "pretrained"  # channels of files, not of images
CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class Inputs:
    """The image channels of a job as folders that `scan` can read, and the class list where one was given."""

    channels: dict[str, Path]
    classes: tuple[str, ...] | None = None


def find_inputs(paths: ContainerPaths) -> Inputs:
    """Find train, validation and test, as File, FastFile or Pipe mode delivers them.

    A channel in Pipe mode is read to its end here, into the job's scratch folder; a pipe can be read once, so only
    one process of a host may call this for such a job.

    Raises:
        DataError: a channel in Pipe mode that is not an augmented manifest of images, a class list that cannot be
            used, or a sharded `train` channel without a class list.
        ConfigError: the platform's JSON files are damaged.
    """
    configs = paths.read_channel_configs()
    for name in (CLASSES, PRETRAINED):
        if configs.get(name, ChannelConfig()).input_mode == "Pipe":
            raise DataError(f"Channel '{name}' is in Pipe mode, but it is read as files. Set its InputMode to File.")
    classes = _read_classes(paths.channel(CLASSES))
    _require_class_list_when_sharded(paths, configs.get(TRAIN, ChannelConfig()), classes)
    found: dict[str, Path] = {}
    for name in (TRAIN, VALIDATION, TEST):
        folder = _deliver(paths, name, configs.get(name, ChannelConfig()))
        if folder is not None:
            found[name] = folder
    return Inputs(_unfold(found), classes)


def _deliver(paths: ContainerPaths, name: str, config: ChannelConfig) -> Path | None:
    if config.input_mode != "Pipe":
        return paths.channel(name)
    folder = paths.scratch_dir / "pipe" / name
    return spool(paths.pipe(name), folder, channel=name, record_wrapper=config.record_wrapper)


def _unfold(found: dict[str, Path]) -> dict[str, Path]:
    """Put the parts of a channel that holds train/, valid/ and test/ in the place of the channels that are missing."""
    parts = {name: {} if find_list(folder) else nested_channels(folder) for name, folder in found.items()}
    own = {name: parts[name].get(name, folder) for name, folder in found.items()}
    inner = parts.get(TRAIN, {})
    if inner:
        _LOG.info(
            "Channel train holds %s: %s.",
            ", ".join(f"{path.relative_to(found[TRAIN])}/" for path in inner.values()),
            "; ".join(_use(name, path, own) for name, path in inner.items()),
        )
    return {**inner, **own}


def _use(name: str, path: Path, own: dict[str, Path]) -> str:
    taken = own.get(name, path) == path
    return f"{path.name}/ {'is the' if taken else 'is not used, the job has its own'} channel {name}"


def _require_class_list_when_sharded(
    paths: ContainerPaths, train: ChannelConfig, classes: tuple[str, ...] | None
) -> None:
    hosts = paths.read_hosts()
    if train.distribution != "ShardedByS3Key" or len(hosts.names) == 1:
        return
    if classes is None:
        raise DataError(
            f"Channel 'train' is ShardedByS3Key over {len(hosts.names)} hosts: each sees a part of the files, so the "
            "hosts may find different classes and number them differently. Add a channel 'classes' (FullyReplicated) "
            f"with a file {CLASSES_FILE}, one class name a line, or use FullyReplicated for 'train'."
        )
    _LOG.info(
        "Channel train is sharded: host %s (%d of %d) sees its part; %d classes from %s",
        hosts.current, hosts.rank + 1, len(hosts.names), len(classes), CLASSES_FILE,
    )  # fmt: skip


def _read_classes(channel: Path | None) -> tuple[str, ...] | None:
    """The class names of the `classes` channel in their order; None without such a channel."""
    if channel is None:
        return None
    path = channel / CLASSES_FILE
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in visible(channel))) or "nothing"
        raise DataError(
            f"Channel 'classes' has no {CLASSES_FILE} (it holds {there}). Put one there, one class name a line, and "
            "deliver the channel FullyReplicated."
        )
    try:
        names = tuple(line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} names classes twice: {', '.join(twice)}. Keep one line of each.")
    if len(names) < 2:
        raise DataError(f"{path} names {len(names)} classes. A classifier needs at least two.")
    return names
