"""Servers that tests start as processes of their own on loopback. Each moto plays an AWS that nobody shares."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], log: Path, ready_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs while the block does; ready when the URL answers anything at all."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_it_answers(ready_url, server, log)
        yield server
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as refused:  # it answers
            refused.close()
        except OSError:
            time.sleep(0.1)
            continue
        return
    pytest.fail(f"nothing answers at {url} after 30 s: {log.read_text()}")


@contextlib.contextmanager
def moto_server(folder: Path) -> Iterator[str]:
    """moto's server, its log in the folder; gives its URL."""
    with moto_process(folder) as (url, _):
        yield url


@contextlib.contextmanager
def moto_process(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same, with its process, which a test may halt."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with process(command, folder / "moto.log", f"{url}/moto-api/") as server:
        yield url, server


S3_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def bucket_client(url: str, bucket: str) -> Iterator[Any]:
    """An S3 client of the server at a URL, with a new bucket."""
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    client.create_bucket(Bucket=bucket)
    yield client
    client.close()


@contextlib.contextmanager
def variables(**values: str) -> Iterator[None]:
    """Environment variables that are set while the block runs, here and for what is started from here."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
