"""Where data comes from and artifacts go: file:// and s3:// URIs, listed, read and written in the same way."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol
from urllib.parse import quote, unquote

FILE, S3 = "file", "s3"
_COPY_BYTES = 1 << 20


class StorageError(Exception):
    """A URI that cannot be used, or data that could not be moved. The message says what to do."""


@dataclass(frozen=True)
class Uri:
    """A place: a path of this machine, or a bucket and a key or prefix."""

    scheme: str
    bucket: str  # empty for a file
    path: str  # absolute for a file, a key without leading slash for S3

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read `s3://bucket/key` or `file:///absolute/path`, the latter with % escapes as `Path.as_uri` writes them.

        Raises:
            StorageError: it is neither.
        """
        scheme, separator, rest = text.partition("://")
        if separator and scheme == S3:
            bucket, _, key = rest.partition("/")
            if bucket:
                return cls(S3, bucket, key)
        if separator and scheme == FILE and rest.startswith("/") and "\0" not in unquote(rest):
            return cls(FILE, "", os.path.normpath(unquote(rest)))
        raise StorageError(f"'{text}' is no URI of data; write s3://bucket/key or file:///absolute/path.")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.path}" if self.scheme == S3 else f"file://{quote(self.path)}"

    def join(self, *parts: str) -> Uri:
        """The place below this one."""
        below = "/".join([self.path.rstrip("/"), *parts])
        return Uri(self.scheme, self.bucket, below if self.scheme == FILE else below.lstrip("/"))

    @property
    def file(self) -> Path:
        """The path of a file:// URI."""
        assert self.scheme == FILE  # noqa: S101 - callers have looked
        return Path(self.path)


@dataclass(frozen=True)
class Item:
    """One file or object."""

    uri: Uri
    name: str  # its path below what was listed, with slashes
    size_bytes: int


class Storage(Protocol):
    """One of the two kinds of places."""

    def list(self, uri: Uri) -> list[Item]:
        """Everything under a prefix, by name; one item where the URI names a file or an object itself."""

    def open(self, uri: Uri) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Read one file or object as a stream."""

    def put(self, source: Path, uri: Uri) -> None:
        """Write a file there, all of it or nothing of it."""

    def delete(self, uri: Uri) -> None:
        """Remove one file or object; nothing when it is not there."""


def safe_name(name: str, uri: Uri) -> str:
    """A name that can be a path below a folder.

    Raises:
        StorageError: it would lead out of the folder.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise StorageError(f"'{uri}' has the name '{name}', which is no path below a folder. Rename or leave it out.")
    return str(PurePosixPath(name))


def _inside(folder: Path, file: Path) -> Path:
    """The file itself, unless a link leads out of the folder: the request names the folder and nothing else.

    Raises:
        StorageError: it does, as one may that a container left there.
    """
    if not file.resolve().is_relative_to(folder):
        raise StorageError(f"'{file}' is a link out of {folder}, which a container could not follow. Put a copy there.")
    return file


class FileStorage:
    """The files of this machine."""

    def list(self, uri: Uri) -> list[Item]:
        """A file, or all files below a folder (see Storage)."""
        path = uri.file
        if path.is_file():
            return [Item(uri, path.name, path.stat().st_size)]
        if not path.is_dir():
            raise StorageError(f"'{uri}' is neither a file nor a folder of this machine. Correct the URI.")
        files = sorted(Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names)
        real = path.resolve()
        return [
            Item(Uri(FILE, "", str(_inside(real, file))), file.relative_to(path).as_posix(), file.stat().st_size)
            for file in files
            if file.is_file()
        ]

    @contextlib.contextmanager
    def open(self, uri: Uri) -> Iterator[IO[bytes]]:
        """A file's bytes."""
        try:
            stream = uri.file.open("rb")
        except OSError as error:
            raise StorageError(f"'{uri}' cannot be read: {error.strerror}.") from error
        with stream:
            yield stream

    def put(self, source: Path, uri: Uri) -> None:
        """A copy beside the target that takes its place."""
        target = uri.file
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, temporary)
            temporary.replace(target)
        except OSError as error:
            raise StorageError(f"'{uri}' cannot be written: {error.strerror}.") from _at(target, error)
        finally:
            with contextlib.suppress(OSError):  # its folder is none, or cannot be read
                temporary.unlink(missing_ok=True)

    def delete(self, uri: Uri) -> None:
        """Unlink."""
        uri.file.unlink(missing_ok=True)


class S3Storage:
    """Whatever S3 boto3 is configured for: AWS, or another at AWS_ENDPOINT_URL_S3."""

    def __init__(self) -> None:
        import boto3  # half a second, which jobs on files need not wait for
        from botocore.config import Config

        session = boto3.Session()
        addressing = {"addressing_style": "path"} if os.environ.get("AWS_ENDPOINT_URL_S3") else {}
        config = Config(s3=addressing, retries={"mode": "standard", "max_attempts": 5})
        self._client: Any = session.client("s3", region_name=session.region_name or "us-east-1", config=config)

    @contextlib.contextmanager
    def _explained(self, uri: Uri, verb: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise StorageError(
                f"'{uri}' cannot be {verb}: {error}. Check the URI, credentials and permissions."
            ) from error

    def list(self, uri: Uri) -> list[Item]:
        """All objects whose keys begin with the prefix, but no folder markers (see Storage)."""
        with self._explained(uri, "listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=uri.bucket, Prefix=uri.path)
            found = [(entry["Key"], entry["Size"]) for page in pages for entry in page.get("Contents", [])]
        cut = len(uri.path) if uri.path.endswith("/") or not uri.path else uri.path.rfind("/") + 1
        whole = uri.path + "/"  # a prefix that names a folder, without its slash
        if any(key.startswith(whole) for key, _ in found):
            found = [(key, size) for key, size in found if key.startswith(whole)]
            cut = len(whole)
        return [
            Item(Uri(S3, uri.bucket, key), safe_name(key[cut:], uri), size)
            for key, size in sorted(found)
            if not key.endswith("/")
        ]

    @contextlib.contextmanager
    def open(self, uri: Uri) -> Iterator[IO[bytes]]:
        """An object's bytes as they come."""
        with self._explained(uri, "read"):
            body = self._client.get_object(Bucket=uri.bucket, Key=uri.path)["Body"]
            with contextlib.closing(body):
                yield body

    def put(self, source: Path, uri: Uri) -> None:
        """An upload, in parts where it is large."""
        with self._explained(uri, "written"):
            self._client.upload_file(str(source), uri.bucket, uri.path)

    def delete(self, uri: Uri) -> None:
        """DeleteObject."""
        with self._explained(uri, "removed"):
            self._client.delete_object(Bucket=uri.bucket, Key=uri.path)


@functools.cache
def _s3(_endpoint: str | None) -> S3Storage:
    return S3Storage()


def storage_of(uri: Uri) -> Storage:
    """Who keeps what the URI names."""
    return FileStorage() if uri.scheme == FILE else _s3(os.environ.get("AWS_ENDPOINT_URL_S3"))


def fetch(item: Item, folder: Path, *, link: bool = False) -> Path:
    """Bring an item into a folder under its name; `link`: a file of this machine by a hard link where that is possible.

    Raises:
        StorageError: it cannot be read, or the folder not written.
    """
    target = folder / safe_name(item.name, item.uri)
    target.parent.mkdir(parents=True, exist_ok=True)
    if link and item.uri.scheme == FILE:
        with contextlib.suppress(OSError):  # another file system
            os.link(item.uri.file.resolve(), target)
            return target
    try:
        with storage_of(item.uri).open(item.uri) as source, target.open("wb") as copy:
            while block := source.read(_COPY_BYTES):
                copy.write(block)
    except OSError as error:
        raise StorageError(f"'{item.uri}' cannot be copied to {target}: {error.strerror}.") from _at(target, error)
    return target


def _at(target: Path, error: OSError) -> OSError:
    """The error with the name of the file that was written, which that of a write lacks."""
    error.filename = error.filename or str(target)
    return error
