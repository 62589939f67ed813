"""Brings a model's data to the folder that a container sees as its model: unpacked, or as it lies.

Source: API reference, ContainerDefinition (ModelDataUrl) and S3ModelDataSource (S3DataType, CompressionType).
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.contract import archives
from kennel.storage import StorageError, Uri, fetch, storage_of

PREFIX = "S3Prefix"
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelData:
    """Where a container's model is."""

    uri: Uri
    archive: bool  # one model.tar.gz, and not plain files
    prefix: bool  # everything below the URI, and not one object


def model_data(container: Mapping[str, Any]) -> ModelData | None:
    """What a container definition names, or None where the image brings its own model.

    Raises:
        StorageError: the place is no URI.
    """
    if container.get("ModelDataUrl"):
        return ModelData(Uri.parse(container["ModelDataUrl"]), archive=True, prefix=False)
    source = (container.get("ModelDataSource") or {}).get("S3DataSource")
    if not source:
        return None
    return ModelData(
        Uri.parse(source["S3Uri"]), source["CompressionType"] == "Gzip", prefix=source["S3DataType"] == PREFIX
    )


def bring(data: ModelData | None, folder: Path) -> None:
    """Make `folder` hold the model, or be empty; it appears whole, and one that is there already is kept.

    Raises:
        StorageError: the data is not there, is no archive, or a name in it leads out of the folder.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a server that was killed
    partial.mkdir(parents=True)
    try:
        if data:
            _bring(data, partial)
        partial.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _bring(data: ModelData, folder: Path) -> None:
    if data.archive:
        with storage_of(data.uri).open(data.uri) as source, tempfile.NamedTemporaryFile(dir=folder.parent) as copy:
            shutil.copyfileobj(source, copy, _COPY_BYTES)  # tarfile wants a file in which it can go back
            copy.flush()
            unpack(Path(copy.name), folder, data.uri)
        return
    items = storage_of(data.uri).list(data.uri)
    if not items:
        raise StorageError(f"Could not find model data at {data.uri}: there is nothing. Correct the URI.")
    for item in items:
        fetch(item, folder)


def unpack(archive: Path, folder: Path, uri: Uri) -> None:
    """Unpack a tar archive, compressed or not; sizes, times and permissions are kept.

    No member leaves the folder, by its name or by a link, and none is a device.

    Raises:
        StorageError: it is no such archive.
    """
    try:
        archives.unpack(archive, folder)
    except archives.UnsafeMemberError as error:
        raise StorageError(
            f"'{uri}' is not unpacked: {error}. Pack the model's files by plain relative names."
        ) from error
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise StorageError(f"'{uri}' cannot be unpacked as a .tar.gz archive: {error}. Pack the model anew.") from error
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o700)  # a folder that its owner may not enter could not be removed
