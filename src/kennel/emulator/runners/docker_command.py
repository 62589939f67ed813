"""The docker command line: it knows contexts, remote engines and rootless ones, and what `docker` means on a Mac."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from kennel.emulator.runners.base import RunnerError

_TIMEOUT_S = 60


class MissingContainerError(Exception):
    """The engine knows no such container."""


def docker(*arguments: str, timeout_s: float | None = _TIMEOUT_S, environ: Mapping[str, str] | None = None) -> str:
    """Run docker, with further variables of its own, and return what it printed.

    Raises:
        MissingContainerError: what the arguments name is not there.
        RunnerError: it failed, or did not answer in time.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **environ} if environ else None,
        )
    except FileNotFoundError:
        raise RunnerError("docker is not on PATH. Install it, or use the process runner.") from None
    except subprocess.TimeoutExpired:
        raise RunnerError(f"docker {arguments[0]} gave no answer in {timeout_s:g} s. Is the engine well?") from None
    except OSError as error:
        raise RunnerError(f"docker {arguments[0]} could not be started: {error}") from error
    if done.returncode == 0:
        return done.stdout.strip()
    problem = done.stderr.strip()
    if "No such container" in problem or "No such object" in problem:
        raise MissingContainerError(problem)
    raise RunnerError(f"docker {arguments[0]} failed: {problem or f'exit status {done.returncode}'}")


def inspect(container: str) -> dict[str, Any]:
    """What the engine knows about a container.

    Raises:
        MissingContainerError: it is not there.
        RunnerError: the engine does not answer.
    """
    found: dict[str, Any] = json.loads(docker("container", "inspect", container))[0]
    return found


def image_facts(image: str) -> dict[str, Any] | None:
    """What the engine knows about an image of this machine; None when it has none of that name.

    Raises:
        RunnerError: the engine does not answer.
    """
    try:
        found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    except RunnerError as error:
        if "No such image" in str(error):
            return None
        raise
    return found


def image_labels(image: str, pull_s: float) -> dict[str, str]:
    """An image's labels; it is pulled, within `pull_s`, when it is not there.

    Raises:
        RunnerError: it cannot be had.
    """
    look = ("image", "inspect", "--format", "{{json .Config.Labels}}", image)
    try:
        found = docker(*look)
    except RunnerError:
        docker("pull", "--quiet", image, timeout_s=pull_s)
        found = docker(*look)
    return json.loads(found) or {}


def has_gpus() -> bool:
    """Whether the engine can give GPUs to a container; it can when it knows NVIDIA's runtime.

    Raises:
        RunnerError: the engine does not answer.
    """
    return "nvidia" in docker("info", "--format", "{{json .Runtimes}}")
