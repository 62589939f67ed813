"""A registry of our own on loopback, and a stand-in for AWS."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from tests.images import docker, unavailable

ACCOUNT = "123456789012"  # moto's
ECR_PASSWORD = f"{ACCOUNT}-auth-token"  # what moto's GetAuthorizationToken gives to the user AWS


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
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
def process(command: list[str], log: Path, ready_url: str) -> Iterator[None]:
    """A server that runs while the block does; ready when the URL answers anything at all."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(ready_url, server, log)
        yield
    finally:
        server.terminate()
        server.wait(timeout=30)


@dataclass(frozen=True)
class Registry:
    """An image registry on loopback that asks for ECR's user name and moto's password."""

    host: str
    credentials: Path  # a DOCKER_CONFIG folder that has logged in

    @property
    def environ(self) -> Mapping[str, str]:
        return {"DOCKER_CONFIG": str(self.credentials)}


@pytest.fixture(scope="session")
def registry(docker_daemon: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:  # noqa: ARG001
    """Debian's docker-registry."""
    if not shutil.which("docker-registry"):
        unavailable("docker-registry is not on PATH (apt-get install docker-registry)")
    folder = tmp_path_factory.mktemp("registry")
    host = f"127.0.0.1:{free_port()}"
    hashed = bcrypt.hashpw(ECR_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"AWS:{hashed}\n")
    (folder / "config.yml").write_text(
        f"""\
version: 0.1
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http: {{addr: '{host}'}}
auth:
  htpasswd: {{realm: test, path: {folder}/htpasswd}}
"""
    )
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with process(command, folder / "log", f"http://{host}/v2/"):
        credentials = folder / "docker"
        docker("--config", str(credentials), "login", "-u", "AWS", "--password-stdin", host, input=ECR_PASSWORD)
        yield Registry(host, credentials)
    shutil.rmtree(folder / "data", ignore_errors=True)  # gigabytes


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that sends the aws command to a stand-in for AWS."""
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with process(command, log, f"{url}/moto-api/"):
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-central-1",
        }
