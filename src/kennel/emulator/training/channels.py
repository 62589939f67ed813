"""The input channels of a training request, and why some cannot be delivered.

Source: SageMaker API reference, Channel, S3DataSource and ShuffleConfig.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.storage import FILE, StorageError, Uri

PREFIX, MANIFEST, AUGMENTED = "S3Prefix", "ManifestFile", "AugmentedManifestFile"
FILE_MODE, FAST_FILE, PIPE = "File", "FastFile", "Pipe"
SHARDED = "ShardedByS3Key"


@dataclass(frozen=True)
class Channel:
    """One entry of InputDataConfig, with the request's defaults filled in."""

    name: str
    uri: Uri
    data_type: str = PREFIX
    distribution: str = "FullyReplicated"
    input_mode: str = FILE_MODE
    record_wrapper: str = "None"
    compression: str = "None"
    content_type: str | None = None
    attributes: tuple[str, ...] = ()
    shuffle_seed: int | None = None
    groups: tuple[str, ...] = ()  # of instances; empty: all

    @property
    def is_sharded(self) -> bool:
        """Whether every host gets a part of the items."""
        return self.distribution == SHARDED


def read_channels(request: Mapping[str, Any]) -> list[Channel]:
    """The channels of a training request or of its document.

    Raises:
        StorageError: an S3Uri that is neither s3:// nor file://.
    """
    default_mode = request.get("AlgorithmSpecification", {}).get("TrainingInputMode") or FILE_MODE
    return [_read(entry, default_mode) for entry in request.get("InputDataConfig", [])]


def _read(entry: Mapping[str, Any], default_mode: str) -> Channel:
    source = entry["DataSource"].get("S3DataSource")
    if source is None:
        given = ", ".join(entry["DataSource"]) or "nothing"
        raise StorageError(
            f"Channel '{entry['ChannelName']}' has the DataSource {given}; the local SageMaker reads S3DataSource "
            "only, with an s3:// or file:// URI."
        )
    return Channel(
        name=entry["ChannelName"],
        uri=Uri.parse(source["S3Uri"]),
        data_type=source["S3DataType"],
        distribution=source.get("S3DataDistributionType") or Channel.distribution,
        input_mode=entry.get("InputMode") or default_mode,
        record_wrapper=entry.get("RecordWrapperType") or Channel.record_wrapper,
        compression=entry.get("CompressionType") or Channel.compression,
        content_type=entry.get("ContentType") or None,
        attributes=tuple(source.get("AttributeNames") or ()),
        shuffle_seed=entry["ShuffleConfig"]["Seed"] if entry.get("ShuffleConfig") else None,
        groups=tuple(source.get("InstanceGroupNames") or ()),
    )


def channel_notes(channels: list[Channel]) -> Iterator[str]:
    """Sentences about what is delivered in another way than on SageMaker, to the same effect."""
    for channel in channels:
        if channel.input_mode == FAST_FILE and channel.uri.scheme != FILE:
            yield (
                f"Channel '{channel.name}': FastFile mode copies '{channel.uri}' before the program starts instead of "
                "streaming it: the start takes as long as in File mode, and the disk must have room."
            )


def channel_refusals(channels: list[Channel], groups: tuple[str, ...]) -> Iterator[str]:
    """Sentences about what cannot be delivered; `groups` are the names of the job's instance groups."""
    names = [channel.name for channel in channels]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"InputDataConfig has the channel '{name}' twice. Channel names must be unique."
    for channel in channels:
        if channel.name in (".", ".."):
            yield f"The channel name '{channel.name}' cannot be that of a folder. Use letters, digits and '-'."
        for problem in _problems(channel, groups):
            yield f"Channel '{channel.name}': {problem}"


def _problems(channel: Channel, groups: tuple[str, ...]) -> Iterator[str]:
    pipe = channel.input_mode == PIPE
    if channel.compression == "Gzip" and not pipe:
        yield "CompressionType Gzip is for Pipe mode only. Leave it out, or set InputMode to Pipe."
    if channel.record_wrapper == "RecordIO" and not pipe:
        yield "RecordWrapperType RecordIO is for Pipe mode only. Leave it out, or set InputMode to Pipe."
    if channel.data_type not in (PREFIX, MANIFEST, AUGMENTED):
        yield f"S3DataType {channel.data_type} is not known to the local SageMaker. Use S3Prefix."
    if channel.data_type == AUGMENTED and not pipe:
        yield f"AugmentedManifestFile is for Pipe mode only, not {channel.input_mode}. Set InputMode to Pipe."
    if channel.data_type == AUGMENTED and not channel.attributes:
        yield "AugmentedManifestFile needs AttributeNames, such as ['source-ref', 'class']."
    if channel.data_type == MANIFEST and channel.input_mode == FAST_FILE:
        yield "FastFile mode reads S3Prefix only. Use File mode for a ManifestFile."
    for group in channel.groups:
        if group not in groups:
            yield f"InstanceGroupNames has '{group}', but ResourceConfig.InstanceGroups has {list(groups) or 'none'}."
    if channel.uri.scheme == FILE and not channel.uri.file.exists():
        yield f"there is no {channel.uri.file} on this machine. Correct the S3Uri."
