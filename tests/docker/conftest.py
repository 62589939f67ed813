"""The images, built once a session by the script that people run, and a registry of our own on loopback."""

from __future__ import annotations

import contextlib
import os
import re
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
from typing import Any

import bcrypt
import pytest

ROOT = Path(__file__).parents[2]
REQUIRE = "KENNEL_REQUIRE_DOCKER"  # set to 1 where a missing docker must fail: in CI
ACCOUNT = "123456789012"  # moto's
ECR_PASSWORD = f"{ACCOUNT}-auth-token"  # what moto's GetAuthorizationToken gives to the user AWS


def docker(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run docker; a failure shows what it said."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done


def build_and_push(tree: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a tree."""
    return subprocess.run(
        ["./build_and_push.sh", *arguments],
        cwd=tree,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environ},
    )


def digests(output: str) -> dict[str, str]:
    """The lines that build_and_push.sh prints, as a mapping."""
    return dict(line.split(" ") for line in output.splitlines())


def unavailable(reason: str) -> None:
    """Skip, or fail where docker is required."""
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason}; {REQUIRE} is 1")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_daemon() -> None:
    """Everything below needs one."""
    if not shutil.which("docker"):
        unavailable("docker is not on PATH")
    if docker("info", check=False).returncode:
        unavailable("no docker daemon answers")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as it is now, so that an edit while the tests run changes neither images nor tags."""
    copy = tmp_path_factory.mktemp("tree") / "kennel"
    git(ROOT, "clone", "--quiet", str(ROOT), str(copy))
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]:
        (copy / name).unlink(missing_ok=True)
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="session")
def base_image(docker_daemon: None) -> str:  # noqa: ARG001 - marks cannot be put on fixtures
    """BASE_IMAGE where it is set, or else the stand-in made from Debian packages."""
    if os.environ.get("BASE_IMAGE"):
        return os.environ["BASE_IMAGE"]
    if docker("image", "inspect", "kennel-base:bookworm", check=False).returncode and not shutil.which("mmdebstrap"):
        unavailable("BASE_IMAGE is not set and mmdebstrap, which makes the stand-in, is not on PATH")
    made = subprocess.run([ROOT / "docker/make_base_image.sh"], stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.strip()


@pytest.fixture(scope="session")
def images(tree: Path, base_image: str) -> dict[str, str]:
    """Names of the two images, by target."""
    done = build_and_push(tree, "--no-push", "--base-image", base_image)
    assert done.returncode == 0, done.stdout + done.stderr
    return {re.sub("kennel-|:.*", "", name): name for name in digests(done.stdout)}


@pytest.fixture(scope="session")
def train_image(images: dict[str, str]) -> str:
    return images["train"]


@pytest.fixture(scope="session")
def serve_image(images: dict[str, str]) -> str:
    return images["serve"]


@pytest.fixture(scope="session")
def serve_mms_image(images: dict[str, str], tree: Path, base_image: str) -> str:  # noqa: ARG001 - the layers below
    """Name of the image with multi-model-server."""
    done = build_and_push(tree, "--no-push", "--only", "serve-mms", "--base-image", base_image)
    assert done.returncode == 0, done.stdout + done.stderr
    [name] = digests(done.stdout)
    return name


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
