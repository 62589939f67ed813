"""An S3 of a module's own: moto's server, which plays an AWS that nobody shares, and one bucket in it."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3

from tests.servers import moto_process

BUCKET = "kennel-test"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Bucket:
    """Short forms of what tests do with the bucket."""

    def __init__(self, url: str, server: subprocess.Popen[bytes]) -> None:
        self._server = server
        self.variables = {**KEYS, "AWS_ENDPOINT_URL_S3": url}  # with which boto3 finds it
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.client: Any = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        self.client.create_bucket(Bucket=BUCKET)

    def put(self, **objects: str) -> None:
        """Objects by key; two underscores are a slash."""
        for key, text in objects.items():
            self.client.put_object(Bucket=BUCKET, Key=key.replace("__", "/"), Body=text.encode())

    def get(self, key: str) -> bytes:
        data = io.BytesIO()
        self.client.download_fileobj(BUCKET, key, data)
        return data.getvalue()

    def keys(self, prefix: str) -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [entry["Key"] for entry in found]

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """S3 answers nobody while the block runs, and everybody afterwards."""
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[Bucket]:
    """A bucket while the block runs; moto's log is in the folder."""
    with moto_process(folder) as (url, server):
        made = Bucket(url, server)
        yield made
        made.client.close()
