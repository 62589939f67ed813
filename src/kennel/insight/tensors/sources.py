"""Where a run's tensors are: a folder, an output.tar.gz, or either of them in S3, as a folder of this machine."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from kennel.contract import archives
from kennel.insight.errors import InsightError

# Below a job's folder, in this order: smdebug's own, the default hook's, the platform's, the one in S3.
_PLACES = ("", "tensors", "output/data/tensors", "output/tensors", "ml/output/data/tensors", "debug-output")
_ARCHIVES = ("output.tar.gz", "output/output.tar.gz")


class Source:
    """A place as people write it. `refresh` brings what is new there; `folder` is where it lies then."""

    def __init__(self, text: str, scratch: Path) -> None:
        """Take a path, a file:// or an s3:// URI; `scratch` is for what has to be fetched or unpacked."""
        self.text = text
        self.scratch = scratch
        self._s3 = S3Copy(text, scratch / "s3") if text.startswith("s3://") else None
        self._path = Path(unquote(urlsplit(text).path)) if text.startswith("file://") else Path(text).expanduser()
        self._unpacked: Path | None = None

    def refresh(self) -> None:
        """Bring what is new in S3.

        Raises:
            InsightError: it cannot be read.
        """
        if self._s3 is not None:
            self._s3.refresh()

    def require(self) -> None:
        """See that something is there.

        Raises:
            InsightError: nothing is.
        """
        if not (self._s3.folder if self._s3 else self._path).exists():
            raise InsightError(f"There is nothing at {self.text}. Give a folder of tensors, or an output.tar.gz.")

    def folder(self) -> Path | None:
        """The folder that has smdebug's `collections` or `index`; None while there is none.

        Raises:
            InsightError: an archive that is damaged.
        """
        base = self._s3.folder if self._s3 else self._path
        archive = _first([base, *(base / name for name in _ARCHIVES)])
        found = _tensors_below(base) if base.is_dir() else None
        if found is None and archive is not None:
            self._unpacked = self._unpacked or _unpack(archive, self.scratch / "archive")
            return _tensors_below(self._unpacked)
        return found


@contextlib.contextmanager
def opened(text: str) -> Iterator[Source]:
    """A source with a scratch folder that goes with the block.

    Raises:
        InsightError: it is not there, or cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="kennel-insight-") as scratch:
        source = Source(text, Path(scratch))
        source.refresh()
        yield source


def fetch_file(text: str, folder: Path) -> Path:
    """One file by path or URI, fetched into a folder where it is in S3.

    Raises:
        InsightError: it cannot be read.
    """
    if not text.startswith("s3://"):
        return Path(unquote(urlsplit(text).path)) if text.startswith("file://") else Path(text).expanduser()
    copy = S3Copy(text, folder)
    copy.refresh()
    return folder / PurePosixPath(text).name


def _first(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.is_file() and path.name.endswith((".tar.gz", ".tgz"))), None)


def _tensors_below(base: Path) -> Path | None:
    return next((base / place for place in _PLACES if _is_trial(base / place)), None)


def _is_trial(folder: Path) -> bool:
    return (folder / "collections").is_dir() or (folder / "index").is_dir()


def _unpack(archive: Path, folder: Path) -> Path:
    try:
        archives.unpack(archive, folder)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InsightError(f"{archive} cannot be unpacked ({error}). Fetch it again.") from error
    return folder


class S3Copy:
    """A copy of a prefix that is brought up to date object by object, objects of the name `without` left out."""

    def __init__(self, uri: str, folder: Path, *, without: str = "") -> None:
        """Take an s3:// URI and a folder that need not be there yet."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self._bucket, self._prefix, self._uri = bucket, key, uri
        self._known: dict[str, str] = {}
        self._client: Any = None
        self.folder, self._without = folder, without

    def refresh(self) -> None:
        """Fetch what is new.

        Raises:
            InsightError: it cannot be read.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            for key, tag, modified_s in list(self._objects()):  # what comes meanwhile is for the next time
                if self._known.get(key) != tag:
                    self._fetch(key, modified_s)
                    self._known[key] = tag
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise InsightError(f"{self._uri} cannot be read: {error}. Check the URI and the credentials.") from error

    def _objects(self) -> Iterator[tuple[str, str, float]]:
        if self._client is None:
            import boto3  # half a second, which files need not wait for
            from botocore.config import Config

            session = boto3.Session()
            addressing = {"addressing_style": "path"} if os.environ.get("AWS_ENDPOINT_URL_S3") else {}
            region = session.region_name or "us-east-1"
            self._client = session.client("s3", region_name=region, config=Config(s3=addressing))
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                name = PurePosixPath(entry["Key"]).name
                if not entry["Key"].endswith("/") and name != self._without:
                    yield entry["Key"], entry["ETag"], entry["LastModified"].timestamp()

    def _fetch(self, key: str, modified_s: float) -> None:
        is_object = key == self._prefix
        name = PurePosixPath(key).name if is_object else key.removeprefix(self._prefix).lstrip("/")
        target = self.folder / name
        if not target.resolve().is_relative_to(self.folder.resolve()):
            raise InsightError(f"s3://{self._bucket}/{key} leads out of its folder. Rename the object.")
        target.parent.mkdir(parents=True, exist_ok=True)
        self._client.download_file(self._bucket, key, str(target))
        os.utime(target, (modified_s, modified_s))  # StalledTrainingRule asks when a step was written
