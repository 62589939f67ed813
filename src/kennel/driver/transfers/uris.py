"""Places by URI: s3:// through boto3, file:// on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kennel.contract.files import atomic_write
from kennel.driver.errors import DriverError
from kennel.driver.session.refusals import explained, is_missing

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


def is_uri(text: str) -> bool:
    """Whether a word on the command line is a URI and not a path."""
    return _SCHEME.match(text) is not None


def file_uri(path: Path, *, folder: bool = False) -> str:
    """The file:// URI of a path; with a slash at its end for a folder."""
    whole = path.resolve() if ".." in path.parts else path.absolute()  # links stay where nothing goes back
    return whole.as_uri() + ("/" if folder else "")


def path_of(uri: str) -> Path:
    """The path of a file:// URI."""
    return Path(unquote(urlsplit(uri).path))


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// URI.

    Raises:
        DriverError: it is none.
    """
    match = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
    if not match:
        raise DriverError(f"'{uri}' is not an S3 URI.", "Write s3://BUCKET/KEY.")
    return match[1], match[2]


def read(uri: str, s3: Any) -> bytes | None:
    """The bytes of one object or file; None while there is none.

    Raises:
        DriverError: it cannot be read.
    """
    if uri.startswith("file://"):
        try:
            return path_of(uri).read_bytes()
        except FileNotFoundError:
            return None
    from botocore.exceptions import ClientError

    bucket, key = split_s3(uri)
    with explained(f"Reading {uri}"):
        try:
            body: bytes = s3().get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if is_missing(error):
                return None
            raise
    return body


def write(uri: str, data: bytes, s3: Any) -> None:
    """Put the bytes of one object or file.

    Raises:
        DriverError: it cannot be written.
    """
    if uri.startswith("file://"):
        path = path_of(uri)
        with atomic_write(path) as file:
            file.write(data)
        return
    bucket, key = split_s3(uri)
    with explained(f"Writing {uri}"):
        s3().put_object(Bucket=bucket, Key=key, Body=data)


def remove(uri: str, s3: Any) -> None:
    """Delete one object or file; nothing when it is not there.

    Raises:
        DriverError: it may not be deleted.
    """
    if uri.startswith("file://"):
        path_of(uri).unlink(missing_ok=True)
        return
    bucket, key = split_s3(uri)
    with explained(f"Deleting {uri}"):
        s3().delete_object(Bucket=bucket, Key=key)
