"""An S3 of a module's own: moto's server, which plays an AWS that nobody shares, and one bucket in it."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.servers import S3_KEYS, bucket_client, moto_process

BUCKET = "kennel-test"


class Bucket:
    """Short forms of what tests do with the bucket."""

    def __init__(self, url: str, server: subprocess.Popen[bytes], client: Any) -> None:
        self._server = server
        self.client = client
        self.variables = {**S3_KEYS, "AWS_ENDPOINT_URL_S3": url}  # with which boto3 finds it

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
    with moto_process(folder) as (url, server), bucket_client(url, BUCKET) as client:
        yield Bucket(url, server, client)
