"""A registry of our own on loopback, and a stand-in for AWS."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from tests.images import docker, unavailable
from tests.servers import free_port, moto_server, process

ACCOUNT = "123456789012"  # moto's
ECR_PASSWORD = f"{ACCOUNT}-auth-token"  # what moto's GetAuthorizationToken gives to the user AWS


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
    with moto_server(tmp_path_factory.mktemp("moto")) as url:
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-central-1",
        }
