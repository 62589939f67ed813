"""A home whose image `kennel-echo` is echo.py, and models for it."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

from kennel.emulator.home import Home
from kennel.emulator.runners import make_runner
from kennel.emulator.runners.base import Runner

IMAGE = "kennel-echo:test"
ECHO = Path(__file__).with_name("echo.py")
_RUNNERS = [pytest.param("process", id="process"), pytest.param("docker", id="docker", marks=pytest.mark.docker)]
both_runners = pytest.mark.parametrize("runner_name", _RUNNERS, indirect=True)


def make_home(folder: Path) -> Home:
    home = Home(folder)
    home.make()
    home.images_file.write_text(json.dumps({"kennel-echo": [sys.executable, str(ECHO)]}))
    return home


def runner_of(home: Home, name: str) -> Runner:
    return make_runner(name, home)


def pack(path: Path, answer: str) -> str:
    """A model.tar.gz whose container answers with a word; its URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = answer.encode()
    member = tarfile.TarInfo("answer.txt")
    member.size = len(data)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(data))
    return path.as_uri()
