"""SageMaker's training and hosting folders: the only file that spells /opt/ml.

Sources: Amazon SageMaker AI developer guide, "How Amazon SageMaker Processes Training Input",
"... Provides Training Information", "... Processes Training Output" and "Use Your Own Inference Code".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.contract.errors import ConfigError
from kennel.contract.files import write_text

BASE_DIR = "/opt/ml"
BASE_DIR_VARIABLE = "SAGEMAKER_BASE_DIR"  # the variable that sagemaker-training reads, too
FAILURE_REASON_CHARS = 1024  # DescribeTrainingJob returns this much of the failure file
HOSTING_STOP_GRACE_S = 30  # an endpoint's container: from SIGTERM to SIGKILL
PAYLOAD_LIMIT_BYTES = 6 * 1024 * 1024  # InvokeEndpoint's Body in botocore's service model
HOSTING_PORT = 8080


@dataclass(frozen=True)
class ChannelConfig:
    """How the platform delivers a channel: its entry in inputdataconfig.json."""

    input_mode: str = "File"  # File, FastFile or Pipe
    distribution: str = "FullyReplicated"  # or ShardedByS3Key: every host gets a part of the objects
    record_wrapper: str = "None"  # or RecordIO


@dataclass(frozen=True)
class Hosts:
    """The machines of a job, from resourceconfig.json."""

    current: str
    names: tuple[str, ...]  # sorted, the same on every host
    network_interface: str | None = None  # that joins the hosts, such as eth0

    @property
    def rank(self) -> int:
        """The place of this machine among all of them."""
        return self.names.index(self.current)


@dataclass(frozen=True)
class ContainerPaths:
    """Where a job finds its input and leaves its output, below one base folder."""

    base: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> ContainerPaths:
        """Take the base folder from SAGEMAKER_BASE_DIR, or SageMaker's own where that is not set."""
        return cls(Path(environ.get(BASE_DIR_VARIABLE) or BASE_DIR))

    @property
    def config_dir(self) -> Path:
        """Where the platform writes its JSON files before the container starts."""
        return self.base / "input/config"

    @property
    def hyperparameters_file(self) -> Path:
        """A JSON object whose values are all strings."""
        return self.config_dir / "hyperparameters.json"

    @property
    def debug_hook_config_file(self) -> Path:
        """The request's DebugHookConfig, present only when the request had one."""
        return self.config_dir / "debughookconfig.json"

    @property
    def profiler_config_file(self) -> Path:
        """The request's ProfilerConfig, present only when the request had one."""
        return self.config_dir / "profilerconfig.json"

    @property
    def profiler_dir(self) -> Path:
        """What the platform uploads of a profile while the job runs, where ProfilingParameters name no other LocalPath.

        Source: smdebug, profiler/profiler_constants.py, BASE_FOLDER_DEFAULT.
        """
        return self.base / "output/profiler"

    @property
    def input_data_config_file(self) -> Path:
        """One object a channel: ContentType, TrainingInputMode, S3DistributionType, RecordWrapperType."""
        return self.config_dir / "inputdataconfig.json"

    @property
    def resource_config_file(self) -> Path:
        """This host's name and those of all hosts."""
        return self.config_dir / "resourceconfig.json"

    @property
    def standby_file(self) -> Path:
        """Tells a program that was started before its job that the job is there; the local SageMaker's own."""
        return self.base / "input/standby.json"

    def pipe(self, channel: str, epoch: int = 0) -> Path:
        """The FIFO of a channel in Pipe mode; every pass over the data has one of its own."""
        return self.base / f"input/data/{channel}_{epoch}"

    @property
    def code_dir(self) -> Path:
        """Where the user's own program runs (sagemaker-training, environment.py, code_dir)."""
        return self.base / "code"

    def seen(self, container_path: str) -> Path:
        """Where a path below /opt/ml is when the base folder is another one; any other path is itself."""
        path = Path(container_path)
        return self.base / path.relative_to(BASE_DIR) if path.is_relative_to(BASE_DIR) else path

    @property
    def scratch_dir(self) -> Path:
        """Room for files that end with the job; the platform uploads none of it."""
        return self.base / "tmp"

    @property
    def shared_dir(self) -> Path:
        """What the trials of a tuning job have in common; made by the local SageMaker, and by nobody else."""
        return self.base / "shared"

    def channel(self, name: str) -> Path | None:
        """The folder of an input channel, or None when the job has no such channel."""
        folder = self.base / "input/data" / name
        return folder if folder.is_dir() else None

    @property
    def channels_dir(self) -> Path:
        """The folder that holds one folder a channel."""
        return self.base / "input/data"

    @property
    def model_dir(self) -> Path:
        """What becomes model.tar.gz; in a hosting container, what it was unpacked to."""
        return self.base / "model"

    @property
    def models_dir(self) -> Path:
        """Where a multi-model endpoint unpacks its models, each to `NAME/model` (developer guide, "Custom Containers
        Contract for Multi-Model Endpoints").
        """
        return self.base / "models"

    @property
    def output_data_dir(self) -> Path:
        """What becomes output.tar.gz."""
        return self.base / "output/data"

    @property
    def findings_file(self) -> Path:
        """What the debugger's rules say of the training; docs/rules.md has its members."""
        return self.output_data_dir / "findings.json"

    @property
    def checkpoints_dir(self) -> Path:
        """Copied to S3 while the job runs and back before it starts again, when the request had a CheckpointConfig.

        Source: developer guide, "Checkpoints in Amazon SageMaker AI"; CheckpointConfig.LocalPath's default.
        """
        return self.base / "checkpoints"

    @property
    def failure_file(self) -> Path:
        """Its first 1024 characters become the job's FailureReason."""
        return self.base / "output/failure"

    def read_hyperparameters(self) -> dict[str, str]:
        """The job's hyperparameters as the platform wrote them; empty when there is no such file.

        Raises:
            ConfigError: the file is not a JSON object.
        """
        values = _read_object(self.hyperparameters_file, "strings")
        return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}

    def read_channel_configs(self) -> dict[str, ChannelConfig]:
        """How each channel is delivered; empty when there is no such file, as on a laptop.

        Raises:
            ConfigError: the file is not a JSON object of objects.
        """
        configs: dict[str, ChannelConfig] = {}
        for name, entry in _read_object(self.input_data_config_file, "one object a channel").items():
            if not isinstance(entry, dict):
                raise ConfigError(
                    [f"{self.input_data_config_file}: channel '{name}' is {json.dumps(entry)}; write an object."]
                )
            configs[name] = ChannelConfig(
                entry.get("TrainingInputMode") or ChannelConfig.input_mode,
                entry.get("S3DistributionType") or ChannelConfig.distribution,
                entry.get("RecordWrapperType") or ChannelConfig.record_wrapper,
            )
        return configs

    def read_hosts(self) -> Hosts:
        """The machines of the job; one that is called localhost when there is no such file.

        Raises:
            ConfigError: the file is not a JSON object, or its hosts do not have the current one.
        """
        values = _read_object(self.resource_config_file, "current_host and hosts")
        current = values.get("current_host") or "localhost"
        names = values.get("hosts") or [current]
        if not isinstance(names, list) or current not in names:
            raise ConfigError(
                [f"{self.resource_config_file}: current_host is '{current}', hosts is {json.dumps(names)}; list it."]
            )
        return Hosts(current, tuple(sorted(map(str, names))), values.get("network_interface_name"))

    def write_failure(self, message: str) -> None:
        """Tell the platform why the job failed; only the first 1024 characters are kept there."""
        write_text(self.failure_file, message[:FAILURE_REASON_CHARS])


def _read_object(path: Path, members: str) -> dict[str, Any]:
    """A JSON object, or an empty one when there is no such file."""
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError([f"{path} is not valid JSON: {error}."]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{path} holds a JSON {type(values).__name__}; write an object of {members}."])
    return values
