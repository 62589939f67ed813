"""The image with multi-model-server, as a hardened host would run it."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images import docker
from tests.serving.serving_harness import encoded, network, save, scene

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]  # the first test builds the images

READY_S = 60


def ask(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    headers = {"Content-Type": "image/jpeg"} if body else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()
    except OSError:
        return 0, b""


def wait_for(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_S
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.fixture
def container(serve_mms_image: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A container with 1 GB of memory that may write into a tmpfs alone, of docker's kind: noexec."""
    model = save(tmp_path / "model", network())
    name = docker(
        "run", "--detach", "--read-only", "--tmpfs=/tmp", "--memory=1g", "--memory-swap=1g",
        "--env=SAGEMAKER_MODEL_SERVER_WORKERS=2", f"--volume={model}:/opt/ml/model:ro", "--publish=127.0.0.1::8080",
        serve_mms_image, "serve",
    ).stdout.strip()  # fmt: skip
    address = docker("port", name, "8080").stdout.split()[0]
    yield name, f"http://{address}"
    docker("rm", "--force", name)


def test_it_answers_from_a_read_only_file_system_and_stops_with_0(container: tuple[str, str]) -> None:
    name, url = container
    wait_for(lambda: ask(f"{url}/ping")[0] == 200, docker("logs", name).stdout)
    for seed in range(20):
        status, body = ask(f"{url}/invocations", encoded(scene(seed), "JPEG"))
        assert status == 200, body
        assert len(json.loads(body)["predictions"]) == 5
    assert ask(f"{url}/models", b"x")[0] == 404
    processes = docker("top", name, "-eo", "pid,args").stdout
    assert processes.count("model_service_worker.py") == 3, processes
    start = time.monotonic()
    docker("stop", name)
    assert time.monotonic() - start < 8
    assert docker("inspect", "--format={{.State.ExitCode}} {{.State.OOMKilled}}", name).stdout.strip() == "0 false"
    lines = docker("logs", name).stdout.splitlines()
    assert {"ready", "stopped"} <= {json.loads(line)["event"] for line in lines}


def test_an_empty_model_folder_ends_it_with_one_sentence(serve_mms_image: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", "--network=none", f"--volume={tmp_path}:/opt/ml/model", serve_mms_image, "serve"],
        capture_output=True, text=True, check=False, timeout=READY_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("serving: /opt/ml/model holds no meta.json")
    assert done.stderr.count("\n") == 1


def test_java_adds_little_to_the_image(serve_image: str, serve_mms_image: str) -> None:
    sizes = [
        int(docker("image", "inspect", "--format={{.Size}}", one).stdout) for one in (serve_image, serve_mms_image)
    ]
    assert sizes[1] - sizes[0] < 300e6
