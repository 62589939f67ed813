"""Docker, and the images as the script that people run builds them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
REQUIRE = "KENNEL_REQUIRE_DOCKER"  # set to 1 where a missing docker must fail: in CI


def docker(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run docker; a failure shows what it said."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done


def build_program(base_image: str, program: Path, tag: str, folder: Path, *lines: str) -> str:
    """An image that runs a program of tests/emulator/containers; `lines` are further ones of its Dockerfile."""
    for path in (program, program.with_name("serving_base.py")):
        shutil.copy(path, folder / path.name)
    head = [f"FROM {base_image}", "RUN ln -sf /usr/bin/python3.11 /usr/local/bin/python3", "COPY *.py /"]
    entrypoint = f"ENTRYPOINT {json.dumps(['python3', f'/{program.name}'])}"
    (folder / "Dockerfile").write_text("\n".join([*head, *lines, entrypoint]))
    docker("build", "--quiet", "--tag", tag, str(folder))
    return tag


@contextlib.contextmanager
def one_builds(what: str) -> Iterator[None]:
    """One of all test processes builds it; the others wait, and find the layers made."""
    with (Path(tempfile.gettempdir()) / f"kennel-{what}-{os.getuid()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout
