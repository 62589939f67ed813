"""Real artifacts, photo-like pictures, and the server as its own process on loopback."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kennel.classifier.data.preprocess import Preprocessing
from kennel.classifier.network.artifact import Meta, save_artifact
from kennel.classifier.network.model import build
from serving.errors import RequestError
from tests.images import docker

ROOT = Path(__file__).parents[2]
CLASSES = ("001.Brick", "002.Grass", "003.Gravel", "004.Sand", "005.Bark", "006.Slate", "007.Moss")
START_LIMIT_S = 120


def network() -> nn.Module:
    """ResNet18 with fixed random weights whose head is sharp enough to tell photos apart."""
    torch.manual_seed(11)
    model = build("resnet18", len(CLASSES)).eval()
    with torch.no_grad():
        model.fc.weight.mul_(6)
    return model


def save(folder: Path, model: nn.Module) -> Path:
    """An artifact as the trainer leaves it."""
    labels = tuple(name.partition(".")[2] for name in CLASSES)
    save_artifact(folder, model, Meta("resnet18", CLASSES, labels, Preprocessing(72, 64), {}, {}, {}, "test"))
    return folder


def scene(seed: int, width: int = 500, height: int = 400) -> Image.Image:
    """A photo-like picture: light falling off over coloured patches, with grain."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(0, 255, (5, 6, 3), dtype=np.uint8))
    pixels = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float64)
    pixels *= np.linspace(1.0, 0.4 + 0.1 * seed, width)[None, :, None]
    return Image.fromarray((pixels + random.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def npy(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


class Boom:
    """Fails the test when somebody unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def refused(status: int, code: str, action: object, *arguments: object) -> str:
    assert callable(action)
    with pytest.raises(RequestError) as caught:
        action(*arguments)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.sentence.endswith((".", "?")), "a refusal is a sentence"
    return caught.value.sentence


class Server:
    """A server as a process, its log as it comes."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._errors = ""
        self._readers = [threading.Thread(target=self._read_log), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read_log(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)

    def _read_errors(self) -> None:
        assert self.process.stderr
        self._errors = self.process.stderr.read()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines of one kind so far; a line that is no JSON fails the test."""
        return [event for event in map(json.loads, list(self.lines)) if event["event"] == name]

    def told(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """The log's lines of one kind once there are so many: a line comes here later than the answer that it is of."""
        self.wait_for(lambda: len(self.events(name)) >= count, f"{count} lines '{name}'")
        return self.events(name)

    def wait_for(self, found: Callable[[], Any], what: str) -> Any:
        """Poll until something holds, and return it."""
        deadline = time.monotonic() + START_LIMIT_S
        while not (value := found()):
            assert time.monotonic() < deadline, f"{what} did not come; log: {self.lines}"
            assert self.process.poll() is None, f"the server ended before {what}: {self.lines} {self._errors}"
            time.sleep(0.01)
        return value

    @property
    def port(self) -> int:
        return int(self.told("listening")[0]["port"])

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=60)

    def wait_until_ready(self) -> None:
        with self.client() as client:
            self.wait_for(lambda: client.get("/ping").status_code == 200, "a healthy /ping")

    def end(self, *, terminate: bool = True) -> tuple[int, str]:
        """Wait for the process, after a SIGTERM unless told otherwise; its exit status and stderr."""
        if terminate:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.close()
        return status, self._errors

    def close(self) -> None:
        """Let go of a process that has ended, or end it; may be repeated."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


class Container(Server):
    """`docker run IMAGE serve`, as hard as a host may run it: nothing but /tmp can be written."""

    def __init__(self, image: str, volume: str, environ: dict[str, str], memory: str = "2g") -> None:
        self.name = f"kennel-test-{uuid.uuid4().hex[:12]}"
        options = [f"--env={name}={value}" for name, value in environ.items()]
        hardened = ["--read-only", "--tmpfs=/tmp", f"--memory={memory}", f"--volume={volume}"]
        published = ["--rm", f"--name={self.name}", "--publish=127.0.0.1::8080"]
        command = ["docker", "run", *published, *hardened, *options, image, "serve"]
        super().__init__(command, dict(os.environ))

    @property
    def port(self) -> int:
        """The port on this machine's loopback address that docker has chosen."""
        self.told("listening")
        return int(docker("port", self.name, "8080").stdout.split()[0].rpartition(":")[2])

    def remove(self) -> None:
        """Killing docker's client would leave the container."""
        docker("rm", "--force", self.name, check=False)


@dataclass(frozen=True)
class Front:
    """One of the ways in which the handler is served."""

    kind: str  # native or mms
    image: str | None = None  # the image that holds it; None: a process of this machine
    memory: str = "2g"  # of its containers

    @contextlib.contextmanager
    def serving(self, folder: Path, *, many: bool = False, **environ: str) -> Iterator[Server]:
        """A server that is gone when the block ends, whatever happened in it.

        Args:
            folder: the artifact, or with `many` the folder of the folders of many.
            many: a multi-model server.
            environ: its variables.
        """
        server: Server
        if many:
            environ["SAGEMAKER_MULTI_MODEL"] = "true"
        if self.image:
            volume = f"{folder}:/opt/ml/{'models' if many else 'model'}:ro"
            server = Container(self.image, volume, environ, self.memory)
        else:
            inherited = {n: v for n, v in os.environ.items() if not n.startswith(("KENNEL_", "SAGEMAKER_"))}
            inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling torch's modules takes each process 10 s
            where = {"KENNEL_MODELS_DIR": str(folder)} if many else {}
            command = [sys.executable, "-m", "serving", "serve", "--front", self.kind, "--port", "0"]
            server = Server([*command, "--model-dir", str(folder)], {**inherited, **where, **environ})
        try:
            yield server
        finally:
            if isinstance(server, Container):
                server.remove()
            server.close()

    def url(self, folder: Path, name: str) -> str:
        """The `url` of one of many models, as the server sees it."""
        return f"{'/opt/ml/models' if self.image else folder}/{name}/model"


NATIVE, MMS = Front("native"), Front("mms")


def same_ranking(first: list[dict[str, Any]], second: list[dict[str, Any]], tolerance: float) -> bool:
    """Whether two top-k lists name the same classes in the same order with equal probabilities."""
    names = [[(line["label"], line["class"]) for line in ranking] for ranking in (first, second)]
    values = [[line["probability"] for line in ranking] for ranking in (first, second)]
    return names[0] == names[1] and values[0] == pytest.approx(values[1], rel=0, abs=tolerance)
