"""Where the driver and the local SageMaker keep their files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "KENNEL_HOME"


@dataclass(frozen=True)
class Home:
    """A folder; `~/.kennel` unless KENNEL_HOME names another."""

    path: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """Take the folder from KENNEL_HOME."""
        return cls(Path(environ.get(HOME_VARIABLE) or "~/.kennel").expanduser().absolute())

    def make(self) -> None:
        """Make the folder, for its owner alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def emulator_file(self) -> Path:
        """Written by the local SageMaker when it listens: pid, port, url, region. Left behind by one that is killed."""
        return self.path / "emulator.json"

    @property
    def emulator_lock(self) -> Path:
        """Held by the local SageMaker that serves this home."""
        return self.path / "emulator.lock"

    @property
    def credentials_file(self) -> Path:
        """Written by the local SageMaker: AccessKeyId, SecretAccessKey, in the form that credential_process reads."""
        return self.path / "credentials.json"

    @property
    def server_log(self) -> Path:
        """What the local SageMaker prints."""
        return self.path / "server.log"

    @property
    def start_lock(self) -> Path:
        """Held while the local SageMaker is being started, so that two clients start one."""
        return self.path / "start.lock"

    @property
    def record_file(self) -> Path:
        """Everything that was created."""
        return self.path / "created.json"

    @property
    def output_dir(self) -> Path:
        """Where jobs on the local SageMaker leave their artifacts: `JOB/output/model.tar.gz`."""
        return self.path / "output"

    @property
    def uploads_dir(self) -> Path:
        """Archives that were packed on this machine for an endpoint on it."""
        return self.path / "uploads"

    def job_dir(self, name: str) -> Path:
        """The folder of a training job that the local SageMaker knows; it is there whether or not one runs."""
        return self.path / "jobs" / name
