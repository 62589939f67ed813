"""Brings a job's channels to its hosts.

Data of this machine is mounted where it lies, without a copy. Only what the request's URIs name can be reached: a
manifest names files below its own folder, or objects of S3.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kennel.emulator.runners.base import Mount
from kennel.emulator.training.channels import AUGMENTED, FAST_FILE, MANIFEST, Channel
from kennel.storage import FILE, Item, StorageError, Uri, fetch, safe_name, storage_of

_DOWNLOADS = 8  # at once
_MANIFEST_BYTES = 1 << 30


def deliver(channel: Channel, folder: Path, *, rank: int, hosts: int) -> None:
    """Bring a channel of File or FastFile mode to one host; `channel_mounts` tells what has to be mounted then.

    Args:
        channel: what is wanted.
        folder: the host's own place for it, below its base folder.
        rank: of the host among those that get the channel.
        hosts: how many get it.

    Raises:
        StorageError: the data is not there, or its names lead out of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _is_in_place(channel, hosts):
        if not channel.uri.file.exists():
            raise StorageError(
                f"Channel '{channel.name}': there is no {channel.uri.file} on this machine. Correct the S3Uri."
            )
        return
    items = list_items(channel)
    if not items:
        raise StorageError(f"Channel '{channel.name}': there is nothing under '{channel.uri}'. Correct the S3Uri.")
    mine = items[rank::hosts] if channel.is_sharded else items
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        for _ in pool.map(lambda item: fetch(item, folder, link=True), mine):
            pass


def channel_mounts(channel: Channel, folder: Path, target: str, *, hosts: int) -> list[Mount]:
    """What has to be mounted beside the host's own folders for a channel, which need not be there yet.

    Args:
        channel: of File or FastFile mode.
        folder: the host's own place for it, below its base folder.
        target: that folder's path in the container.
        hosts: how many get the channel.
    """
    if _is_in_place(channel, hosts):
        path = channel.uri.file
        return [Mount(path, target if path.is_dir() else f"{target}/{path.name}", read_only=True)]
    is_own = channel.uri.scheme != FILE and channel.input_mode != FAST_FILE
    return [] if is_own else [Mount(folder, target, read_only=True)]


def _is_in_place(channel: Channel, hosts: int) -> bool:
    return channel.uri.scheme == FILE and channel.data_type != MANIFEST and not (channel.is_sharded and hosts > 1)


def list_items(channel: Channel) -> list[Item]:
    """What the channel consists of, by name: the objects under its prefix, or those that its manifest lists."""
    if channel.data_type == MANIFEST:
        return list(_manifest_items(channel.uri))
    return storage_of(channel.uri).list(channel.uri)


def shuffled(items: list[Any], channel: Channel, epoch: int) -> list[Any]:
    """The items in the order of an epoch: their own, or by ShuffleConfig's seed another in each epoch."""
    if channel.shuffle_seed is None:
        return items
    order = list(items)
    random.Random(f"{channel.shuffle_seed} {epoch}").shuffle(order)  # noqa: S311 - an order, no secret
    return order


def read_augmented(channel: Channel) -> list[dict[str, Any]]:
    """The lines of an augmented manifest, each with all attributes that the channel asks for.

    Raises:
        StorageError: a line is no JSON object, or lacks an attribute.
    """
    assert channel.data_type == AUGMENTED  # noqa: S101 - callers have looked
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(_read(channel.uri).split("\n"), 1):
        if not text.strip():
            continue
        line = _json(text, f"'{channel.uri}', line {number}")
        if not isinstance(line, dict):
            raise StorageError(
                f"'{channel.uri}', line {number} is no JSON object. An augmented manifest has one a line."
            )
        missing = [name for name in channel.attributes if name not in line]
        if missing:
            raise StorageError(
                f"'{channel.uri}', line {number} lacks {', '.join(missing)}, which AttributeNames asks for."
            )
        lines.append(line)
    return lines


def _manifest_items(manifest: Uri) -> Iterator[Item]:
    """Items of `[{"prefix": "s3://bucket/folder/"}, "a.jpg", …]`; a name is its suffix below the prefix."""
    entries = _json(_read(manifest), f"'{manifest}'")
    is_valid = isinstance(entries, list) and entries and isinstance(entries[0], dict) and "prefix" in entries[0]
    if not is_valid or not all(isinstance(entry, str) for entry in entries[1:]):
        raise StorageError(
            f"'{manifest}' is no manifest: write a JSON array of an object with 'prefix', then names below it."
        )
    prefix = str(entries[0]["prefix"])
    for name in sorted(entries[1:]):
        yield from _named_items(manifest, prefix, name)


def _named_items(manifest: Uri, prefix: str, name: str) -> Iterator[Item]:
    """The object that an entry names, or those of the folder that it names, each by its path below the prefix."""
    uri, safe = named_by(manifest, prefix + name), safe_name(name, manifest)
    listed = storage_of(uri).list(uri)
    itself = [item for item in listed if item.uri == uri]  # a prefix has others as well: a.jpg, a.jpg.old
    if itself:
        yield Item(uri, safe, itself[0].size_bytes)
        return
    below = f"{uri.path.rstrip('/')}/"
    items = [item for item in listed if item.uri.path.startswith(below)]
    if not items:
        raise StorageError(f"'{manifest}' names '{name}', but there is no '{uri}'. Correct the manifest.")
    for item in items:
        yield Item(item.uri, f"{safe}/{safe_name(item.uri.path.removeprefix(below), manifest)}", item.size_bytes)


def named_by(manifest: Uri, text: str) -> Uri:
    """A URI that a manifest may name: any object of S3, or a file below the manifest's own folder.

    Raises:
        StorageError: it is a file elsewhere, which the request does not name.
    """
    uri = Uri.parse(text)
    if uri.scheme != FILE:
        return uri
    if manifest.scheme == FILE and uri.file.resolve().is_relative_to(manifest.file.resolve().parent):
        return uri
    raise StorageError(
        f"'{manifest}' names '{text}', a file of this machine that is not below the manifest's own folder. Put the "
        "manifest into a folder above its files."
    )


def _read(uri: Uri) -> str:
    try:
        with storage_of(uri).open(uri) as stream:
            return stream.read(_MANIFEST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"'{uri}' is not UTF-8 text: {error}. Save it as UTF-8.") from error


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{what} is not JSON: {error}.") from error
