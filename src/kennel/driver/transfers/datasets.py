"""A data folder as the channels of a job: found as the trainer finds them, named by URIs, uploaded for AWS."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kennel.contract.layout import TRAIN, nested_channels
from kennel.contract.manifest import find_list
from kennel.driver.errors import DriverError
from kennel.driver.requests.training import Channel
from kennel.driver.transfers.uris import file_uri, is_uri


@dataclass(frozen=True)
class Source:
    """A channel, and the folder that must be uploaded for it (None: it lies where the job can read it)."""

    channel: Channel
    folder: Path | None = None


def sources(
    data: str | None, extra: Mapping[str, str], *, base_uri: str, local: bool, input_mode: str = "File"
) -> list[Source]:
    """The channels of a job.

    Args:
        data: a folder of class folders (channel `train`), a folder that holds train/, validation/ and test/, or a URI.
        extra: further channels by name, such as `pretrained`, each a path or a URI. They win.
        base_uri: what uploads go below.
        local: whether the job can read this machine's folders.
        input_mode: File or FastFile.

    Raises:
        DriverError: a folder that is not there, or no channel `train`.
        DataError: two folders mean the same channel.
    """
    places = {**({} if data is None else _parts(data)), **extra}
    if TRAIN not in places:
        raise DriverError("No training data.", "Give a folder with a folder of images for each class.")
    return [_source(name, place, base_uri, local, input_mode) for name, place in places.items()]


def _parts(data: str) -> dict[str, str]:
    if is_uri(data):
        return {TRAIN: data}
    root = Path(data).expanduser()
    _require_folder(root)
    nested = {} if find_list(root) else nested_channels(root)
    return {name: str(path) for name, path in nested.items()} or {TRAIN: str(root)}


def _source(name: str, place: str, base_uri: str, local: bool, input_mode: str) -> Source:
    if is_uri(place):
        return Source(Channel(name, place, input_mode))
    folder = Path(place).expanduser().absolute()
    _require_folder(folder)
    if local:
        return Source(Channel(name, file_uri(folder, folder=True), input_mode))
    return Source(Channel(name, f"{base_uri}/data/{upload_name(folder)}/", input_mode), folder)


def upload_name(folder: Path) -> str:
    """The name of a folder's copy in the bucket: two folders that are both called `train` do not meet there."""
    resolved = folder.resolve()
    return f"{resolved.parent.name or 'data'}-{resolved.name}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise DriverError(f"The data folder {folder} is {what}.", "Give a folder, or an s3:// URI.")
