"""What the server may be told, from its arguments and its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kennel.contract.errors import ConfigError
from kennel.contract.paths import HOSTING_PORT, PAYLOAD_LIMIT_BYTES, ContainerPaths
from serving.cores import granted_cores

LOOPBACK = "127.0.0.1"  # a laptop's server is nobody else's; the image says KENNEL_HOST=0.0.0.0
FRONTS = ("native", "mms")
ENGINES = ("torch", "openvino")
PRECISIONS = ("auto", "fp32", "bf16", "int8")
QUEUE_PER_WORKER = 16  # at 1 s a photo the last one waits 16 s: less than an answer (60 s) or a stop (30 s) may take
BODY_TIMEOUT_S = 20  # a body under way when SIGTERM comes still fits into the 30 s of a stop
MAX_IMAGES = 64  # a 6 MB body can hold thousands of tiny images, and one worker would be theirs for minutes
BATCH_MAX_IMAGES = 1024  # nobody waits for a batch transform's next request but itself
STUCK_S = 60  # InvokeEndpoint's own limit: an answer that takes longer is nobody's any more
_MIB = 1024 * 1024


@dataclass(frozen=True)
class ModelSettings:
    """How a model computes and what its answers hold; the handler reads them wherever it runs."""

    engine: str = "torch"
    precision: str = "auto"
    batch_size: int = 0  # images of several requests in one forward pass; 0: 16 on a GPU, 4 on a CPU
    max_images: int = MAX_IMAGES  # of one request
    report_errors: bool = False  # the default of the option of this name

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> ModelSettings:
        """Read KENNEL_ENGINE, KENNEL_PRECISION, KENNEL_BATCH_SIZE, KENNEL_MAX_IMAGES and SAGEMAKER_BATCH.

        In a batch transform a request may hold more images, and one that is refused is reported in its line.

        Raises:
            ConfigError: one or more values are none of theirs; all are named.
        """
        read = _Reader(environ)
        batch = in_batch_transform(environ)
        settings = cls(
            engine=read.word("KENNEL_ENGINE", ENGINES),
            precision=read.word("KENNEL_PRECISION", PRECISIONS),
            batch_size=read.number("KENNEL_BATCH_SIZE", 0, low=1),
            max_images=read.number("KENNEL_MAX_IMAGES", BATCH_MAX_IMAGES if batch else MAX_IMAGES, low=1),
            report_errors=batch,
        )
        if settings.precision == "int8" and settings.engine != "openvino":
            read.problems.append("KENNEL_PRECISION is 'int8', which KENNEL_ENGINE=openvino alone has.")
        read.check()
        return settings


@dataclass(frozen=True)
class Settings:
    """How to serve."""

    front: str
    model_dir: Path
    host: str
    port: int  # 0: one that is free, named in the log
    workers: int
    workers_reason: str
    queue_size: int  # requests that may wait beside those that a worker has
    max_body_bytes: int
    body_timeout_s: int
    stuck_s: int  # a worker that takes longer for one request is no longer taken for healthy
    multi_model: bool
    models_dir: Path  # models that are loaded by name come from below this folder
    max_models: int  # in memory at once; 0: as many as fit
    model: ModelSettings

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        front: str | None = None,
        model_dir: Path | None = None,
        host: str | None = None,
        port: int | None = None,
    ) -> Settings:
        """Read the environment; arguments that are given go before it.

        SAGEMAKER_BIND_TO_PORT, SAGEMAKER_MULTI_MODEL, SAGEMAKER_MAX_PAYLOAD_IN_MB and
        SAGEMAKER_MAX_CONCURRENT_TRANSFORMS are the platform's, SAGEMAKER_MODEL_SERVER_WORKERS the inference toolkit's.

        Raises:
            ConfigError: one or more values are not whole numbers in their range; all are named.
        """
        read = _Reader(environ)
        chosen = read.word("KENNEL_FRONT", FRONTS)
        bound = read.number("SAGEMAKER_BIND_TO_PORT", HOSTING_PORT, low=1, high=65535)
        asked = read.number("SAGEMAKER_MODEL_SERVER_WORKERS", 0, low=1)
        queue = read.number("KENNEL_QUEUE_SIZE", -1, low=0)
        payload = read.number("SAGEMAKER_MAX_PAYLOAD_IN_MB", 0, low=0) if in_batch_transform(environ) else 0
        body = read.number("KENNEL_MAX_BODY_BYTES", payload * _MIB or PAYLOAD_LIMIT_BYTES, low=1)
        patience = read.number("KENNEL_BODY_TIMEOUT_S", BODY_TIMEOUT_S, low=1)
        stuck = read.number("KENNEL_STUCK_S", STUCK_S, low=1)
        models = read.number("KENNEL_MAX_MODELS", 0, low=1)
        at_once = read.number("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", 0, low=0)
        try:
            model = ModelSettings.from_environ(environ)
        except ConfigError as error:
            read.problems += error.problems
        if port is not None and not 0 <= port <= 65535:
            read.problems.append(f"--port is {port}; give a number from 0 (any free one) to 65535.")
        read.check()
        cores = granted_cores()
        workers = asked or cores.count
        paths = ContainerPaths.from_environ(environ)
        return cls(
            front=front or chosen,
            model_dir=model_dir or paths.model_dir,
            host=host or environ.get("KENNEL_HOST") or LOOPBACK,
            port=bound if port is None else port,
            workers=workers,
            workers_reason="SAGEMAKER_MODEL_SERVER_WORKERS" if asked else f"one a core; {cores.reason}",
            queue_size=max(QUEUE_PER_WORKER * workers, at_once) if queue < 0 else queue,
            max_body_bytes=body,
            body_timeout_s=patience,
            stuck_s=stuck,
            multi_model=environ.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true",
            models_dir=Path(environ.get("KENNEL_MODELS_DIR") or paths.models_dir),
            max_models=models,
            model=model,
        )


def in_batch_transform(environ: Mapping[str, str]) -> bool:
    """Whether the platform started this container for a batch transform job."""
    return environ.get("SAGEMAKER_BATCH", "").lower() == "true"


class _Reader:
    """Reads variables and collects what is wrong with them."""

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

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        """A variable's value, or the first choice where it is missing or empty."""
        text = self.environ.get(name, "").strip().lower()
        if text and text not in choices:
            self.problems.append(f"{name} is '{text}'; give one of {', '.join(choices)}, or unset it.")
        return text or choices[0]

    def check(self) -> None:
        """Raises ConfigError with everything that was wrong."""
        if self.problems:
            raise ConfigError(self.problems)
