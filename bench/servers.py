"""What a serving bench needs: a trained artifact, two photos, servers of both fronts, and numbers of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from bench import photos
from bench.process import ROOT, tree_bytes

_LIMIT_S = 180.0
_LARGE_PX = (4000, 3000)


@dataclass(frozen=True)
class Stage:
    """The files of a bench."""

    model: Path
    small: Path  # JPEG of 500x375
    large: Path  # JPEG of 12 megapixels

    @classmethod
    def build(cls, folder: Path) -> Stage:
        """Train ResNet18 on generated photos for two epochs, so that its answers are those of a trained network."""
        photos.generate(folder / "input/data/train", 120, seed=0)
        photos.generate(folder / "input/data/validation", 40, seed=1)
        flags = "--pretrained none --epochs 2 --debugger off --profiler off --precision fp32 --channels_last off"
        flags += " --min_crop_area 0.5"
        command = [sys.executable, "-m", "kennel.classifier", "train", "--base-dir", str(folder), *flags.split()]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        small = next((folder / "input/data/validation").rglob("*.jpg"))
        large = folder / "large.jpg"
        with Image.open(small) as photo:
            photo.resize(_LARGE_PX, Image.Resampling.BICUBIC).save(large, quality=90)
        return cls(folder / "model", small, large)


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    ready_s: float  # from the start of its process to the first healthy ping

    def memory_bytes(self, part: str = "Pss") -> int:
        """Of all its processes; see `bench.process.tree_bytes`."""
        return tree_bytes(self.process.pid, part)


def environ(**own: str) -> dict[str, str]:
    """The environment without what would configure a server, and with our own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KENNEL_", "SAGEMAKER_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, **own}


@contextlib.contextmanager
def serving(model: Path, front: str = "native", **settings: str) -> Iterator[Server]:
    """A server that answers pings, until the block ends.

    Raises:
        RuntimeError: it ended or was not healthy within three minutes.
    """
    command = [sys.executable, "-m", "serving", "serve", "--front", front, "--model-dir", str(model), "--port", "0"]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ(**settings), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        url = f"http://127.0.0.1:{_port(process)}"
        while not _healthy(url):
            if process.poll() is not None or time.perf_counter() - started > _LIMIT_S:
                raise RuntimeError(f"{' '.join(command)} is not healthy (status {process.poll()}).")
            time.sleep(0.01)
        yield Server(process, url, time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[str]) -> int:
    """The port of the line `listening`; the lines after it are read away, so that the pipe never fills."""
    assert process.stdout is not None  # noqa: S101 it is a pipe
    for line in process.stdout:
        if match := re.search(r'"event": "listening".*"port": (\d+)', line):
            subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
            return int(match[1])
    raise RuntimeError("The server ended before it listened.")


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def ask(server: Server, photo: Path, clients: int, seconds: float, rate: float = 0) -> dict[str, Any]:
    """Numbers of `bench.load`, from a process of its own."""
    arguments = ["--clients", str(clients), "--seconds", str(seconds), "--rate", str(rate)]
    command = [sys.executable, "-m", "bench.load", server.url, str(photo), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ(), check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@dataclass
class Loop:
    """A running plain loop, idle between its turns."""

    process: subprocess.Popen[str]

    def rate(self, seconds: float) -> float:
        """Answers a second, in a turn of so many seconds."""
        assert self.process.stdin is not None  # noqa: S101 it is a pipe
        assert self.process.stdout is not None  # noqa: S101
        print(seconds, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith('{"requests_per_s"'):  # the log of the engine's choice comes before
                return float(json.loads(line)["requests_per_s"])
        raise RuntimeError("The plain loop ended; run python -m bench.plain_loop to see why.")


@contextlib.contextmanager
def looping(model: Path, photo: Path, threads: int, **settings: str) -> Iterator[Loop]:
    """`bench.plain_loop`, until the block ends."""
    command = [sys.executable, "-m", "bench.plain_loop", str(model), str(photo), "--threads", str(threads)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Loop(process)
    finally:
        process.kill()
        process.communicate()


def bare_start_s(model: Path) -> float:
    """Seconds of a process that imports torch and loads the model, and does nothing else."""
    code = (
        "import sys, torch, pathlib; from kennel.classifier.network.artifact import load_artifact; "
        "load_artifact(pathlib.Path(sys.argv[1]))"
    )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(model)], cwd=ROOT, env=environ(), check=True)
    return time.perf_counter() - started


def has_java() -> bool:
    """Whether multi-model-server can run here."""
    return shutil.which("java") is not None
