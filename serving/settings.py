"""What the server may be told, from its arguments and its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kennel.classifier.contract import HOSTING_PORT, PAYLOAD_LIMIT_BYTES, ContainerPaths
from kennel.classifier.errors import ConfigError
from serving.cores import granted_cores

LOOPBACK = "127.0.0.1"  # a laptop's server is nobody else's; the image says KENNEL_HOST=0.0.0.0
QUEUE_PER_WORKER = 16  # at 1 s a photo the last one waits 16 s: less than an answer (60 s) or a stop (30 s) may take
BODY_TIMEOUT_S = 20  # a body under way when SIGTERM comes still fits into the 30 s of a stop


@dataclass(frozen=True)
class Settings:
    """How to serve."""

    model_dir: Path
    host: str
    port: int  # 0: one that is free, named in the log
    workers: int
    workers_reason: str
    queue_size: int  # requests that may wait beside those that a worker has
    max_body_bytes: int
    body_timeout_s: int

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        model_dir: Path | None = None,
        host: str | None = None,
        port: int | None = None,
    ) -> Settings:
        """Read the environment; arguments that are given go before it.

        SAGEMAKER_BIND_TO_PORT is the platform's, SAGEMAKER_MODEL_SERVER_WORKERS the inference toolkit's.

        Raises:
            ConfigError: one or more values are not whole numbers in their range; all are named.
        """
        read = _Numbers(environ)
        bound = read.number("SAGEMAKER_BIND_TO_PORT", HOSTING_PORT, low=1, high=65535)
        asked = read.number("SAGEMAKER_MODEL_SERVER_WORKERS", 0, low=1)
        queue = read.number("KENNEL_QUEUE_SIZE", -1, low=0)
        body = read.number("KENNEL_MAX_BODY_BYTES", PAYLOAD_LIMIT_BYTES, low=1)
        patience = read.number("KENNEL_BODY_TIMEOUT_S", BODY_TIMEOUT_S, low=1)
        if port is not None and not 0 <= port <= 65535:
            read.problems.append(f"--port is {port}; give a number from 0 (any free one) to 65535.")
        if read.problems:
            raise ConfigError(read.problems)
        cores = granted_cores()
        workers = asked or cores.count
        return cls(
            model_dir=model_dir or ContainerPaths.from_environ(environ).model_dir,
            host=host or environ.get("KENNEL_HOST") or LOOPBACK,
            port=bound if port is None else port,
            workers=workers,
            workers_reason="SAGEMAKER_MODEL_SERVER_WORKERS" if asked else f"one a core; {cores.reason}",
            queue_size=QUEUE_PER_WORKER * workers if queue < 0 else queue,
            max_body_bytes=body,
            body_timeout_s=patience,
        )


class _Numbers:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def number(self, name: str, default: int, *, low: int, high: int | None = None) -> int:
        """A variable's value, or the default where it is missing or empty."""
        text = self.environ.get(name, "").strip()
        if not text:
            return default
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else low - 1
        if value < low or (high is not None and value > high):
            limits = f"from {low} to {high}" if high is not None else f"of at least {low}"
            self.problems.append(f"{name} is '{text}'; give a whole number {limits}, or unset it.")
        return value
