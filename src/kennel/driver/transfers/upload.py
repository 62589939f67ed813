"""A folder's copy in S3: in parallel, and only what is not there yet, so that a broken upload goes on where it was."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.driver.errors import DriverError
from kennel.driver.session.refusals import explained
from kennel.driver.session.reporting import Reporter
from kennel.driver.transfers.uris import split_s3

_THREADS = 16  # an image is small: what takes time is the way there
_READ_BYTES = 1024 * 1024
_LARGEST_BYTES = 5 * 1024**3  # PutObject's limit
_DELETE_KEYS = 1000  # DeleteObjects' limit
_MB = 1024 * 1024


@dataclass(frozen=True)
class Uploaded:
    """What an upload did."""

    sent: int
    skipped: int  # were there, with the same size and checksum
    removed: int  # were there, and are no longer in the folder
    sent_bytes: int

    def __str__(self) -> str:
        """As a person reads it."""
        removed = f", {self.removed} removed that the folder no longer has" if self.removed else ""
        return f"{self.sent} files sent ({self.sent_bytes / _MB:.1f} MB), {self.skipped} were there{removed}"


@dataclass(frozen=True)
class _Item:
    path: Path
    key: str
    size_bytes: int


def visible_files(folder: Path) -> Iterator[Path]:
    """The files that a job shall see: no hidden ones, as the trainer passes over them too."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__MACOSX" for part in parts):
            yield path


@dataclass(frozen=True)
class Bucket:
    """Where uploads go."""

    s3: Any
    name: str
    kms_key: str = ""

    def put(self, item: _Item) -> int:
        """Send one file; returns its size."""
        extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key} if self.kms_key else {}
        with item.path.open("rb") as file:
            self.s3.put_object(Bucket=self.name, Key=item.key, Body=file, ChecksumAlgorithm="SHA256", **extra)
        return item.size_bytes


def upload_file(path: Path, uri: str, s3: Any, *, kms_key: str = "") -> None:
    """Send one file to exactly this URI.

    Raises:
        DriverError: it is larger than 5 GB, or a refusal of S3.
    """
    bucket, key = split_s3(uri)
    with explained(f"Uploading to {uri}"):
        Bucket(s3, bucket, kms_key).put(_Item(path, key, _size(path)))


def upload(folder: Path, uri: str, s3: Any, reporter: Reporter, *, kms_key: str = "") -> Uploaded:
    """Make the objects below `uri` those of the folder.

    An object stays when its size and its checksum are the file's: its ETag is the MD5 that S3 makes of what it stored
    in one piece, or, where the bucket encrypts with KMS, its SHA-256 is asked for. Objects below `uri` that the folder
    does not have are removed, because the job would train on them.

    Raises:
        DriverError: a file that cannot be read or is larger than 5 GB, or a refusal of S3.
    """
    name, prefix = split_s3(uri)
    bucket = Bucket(s3, name, kms_key)
    items = [_item(path, folder, prefix) for path in visible_files(folder)]
    if not items:
        raise DriverError(f"{folder} has no files.", "Give a folder with a folder of images for each class.")
    with explained(f"Uploading to {uri}"):
        there = {entry["Key"]: entry for entry in list_objects(s3, name, prefix)}
        todo = [item for item in items if _differs_in_size(item, there)]
        doubtful = [item for item in items if not _differs_in_size(item, there)]
        with ThreadPoolExecutor(_THREADS) as pool:
            same = list(pool.map(lambda item: _is_same(item, there[item.key], bucket), doubtful))
            todo += [item for item, equal in zip(doubtful, same, strict=True) if not equal]
            _send(pool, todo, bucket, reporter)
        removed = delete_objects(s3, name, set(there) - {item.key for item in items})
    return Uploaded(len(todo), len(items) - len(todo), removed, sum(item.size_bytes for item in todo))


def _item(path: Path, folder: Path, prefix: str) -> _Item:
    return _Item(path, prefix + path.relative_to(folder).as_posix(), _size(path))


def _size(path: Path) -> int:
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise DriverError(f"{path} has {size / 1024**3:.1f} GB; 5 GB is the most that one object takes.")
    return size


def _differs_in_size(item: _Item, there: dict[str, Any]) -> bool:
    return item.key not in there or there[item.key]["Size"] != item.size_bytes


def _is_same(item: _Item, entry: dict[str, Any], bucket: Bucket) -> bool:
    if entry["ETag"].strip('"') == _digest(item.path, "md5").hexdigest():
        return True
    head = bucket.s3.head_object(Bucket=bucket.name, Key=item.key, ChecksumMode="ENABLED")
    sha256 = base64.b64encode(_digest(item.path, "sha256").digest()).decode()
    return bool(head.get("ChecksumSHA256") == sha256)


def _digest(path: Path, kind: str) -> Any:
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest


def _send(pool: ThreadPoolExecutor, items: list[_Item], bucket: Bucket, reporter: Reporter) -> None:
    total, done = sum(item.size_bytes for item in items), 0
    futures = [pool.submit(bucket.put, item) for item in items]
    try:
        for number, future in enumerate(as_completed(futures), 1):
            done += future.result()
            text = f"{number} of {len(items)} files, {done / _MB:.0f} of {total / _MB:.0f} MB"
            reporter.progress(done, total, text)
    except BaseException:
        for future in futures:
            future.cancel()  # what is on its way still arrives; the next upload finds it there
        raise
    finally:
        reporter.finish()


def list_objects(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Every object below a prefix: Key, Size, ETag."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def delete_objects(s3: Any, bucket: str, keys: Iterable[str]) -> int:
    """Delete objects by key, and return how many.

    Raises:
        DriverError: some could not be deleted.
    """
    rest = sorted(keys)
    for start in range(0, len(rest), _DELETE_KEYS):
        batch = [{"Key": key} for key in rest[start : start + _DELETE_KEYS]]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        errors = answer.get("Errors", [])
        if errors:
            raise DriverError(f"s3://{bucket}/{errors[0]['Key']} could not be deleted: {errors[0].get('Message')}.")
    return len(rest)
