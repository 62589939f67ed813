"""Where the emulator keeps everything: one folder, KENNEL_HOME, which no name that a client sends can leave."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kennel.emulator.state.log_files import LogFiles

HOME_VARIABLE = "KENNEL_HOME"
DEFAULT_HOME = "~/.kennel"
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")  # every SageMaker resource's name: no dot, no slash


@dataclass(frozen=True)
class Home:
    """Paths below one folder. None of them is made here, but the folder itself (mode 700)."""

    path: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """The folder that KENNEL_HOME names, or ~/.kennel."""
        return cls(Path(environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().absolute())

    def make(self) -> None:
        """Make the folder for its owner alone; one that exists keeps its mode."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def state_file(self) -> Path:
        """The store's SQLite file."""
        return self.path / "state.sqlite"

    @property
    def credentials_file(self) -> Path:
        """The key with which clients sign, mode 600."""
        return self.path / "credentials.json"

    @property
    def server_file(self) -> Path:
        """Who serves this home now: pid, port, url, region, runner. There only while somebody listens."""
        return self.path / "emulator.json"

    @property
    def lock_file(self) -> Path:
        """Held by the process that serves this home."""
        return self.path / "emulator.lock"

    @property
    def request_log_file(self) -> Path:
        """One JSON line a request."""
        return self.path / "emulator.log"

    @property
    def images_file(self) -> Path:
        """What the process runner starts for an image: a JSON object of image names and argument vectors."""
        return self.path / "images.json"

    @property
    def logs(self) -> LogFiles:
        """What CloudWatch Logs would keep."""
        return LogFiles(self.path / "logs")

    def job_dir(self, name: str) -> Path:
        """A training job's own folder."""
        return self.path / "jobs" / safe_name(name)

    def metrics_file(self, name: str) -> Path:
        """A training job's metrics from its log: JSON lines of timestamp (s since 1970), name, value."""
        return self.job_dir(name) / "metrics.jsonl"

    def host_metrics_file(self, name: str) -> Path:
        """What was measured of a training job's hosts: such lines, with host."""
        return self.job_dir(name) / "host-metrics.jsonl"

    def shared_dir(self, name: str) -> Path:
        """What the trials of a tuning job have in common, while it goes on."""
        return self.path / "tunings" / safe_name(name) / "shared"

    def endpoint_dir(self, name: str) -> Path:
        """An endpoint's own folder."""
        return self.path / "endpoints" / safe_name(name)

    @property
    def async_dir(self) -> Path:
        """The requests of asynchronous endpoints that wait, a folder for each endpoint."""
        return self.path / "async-requests"

    def transform_dir(self, name: str) -> Path:
        """A transform job's own folder."""
        return self.path / "transforms" / safe_name(name)


def safe_name(name: str) -> str:
    """A resource's name that can be one folder's.

    Raises:
        ValueError: it has characters that no SageMaker resource may have.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{name}' is no resource's name; use letters, digits and hyphens, 63 at most.")
    return name
