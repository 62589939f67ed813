"""The metrics of one training job while it lives: what its log says, and what its hosts use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kennel.emulator.documents.training import life
from kennel.emulator.measuring.host_metrics import HostMetrics
from kennel.emulator.measuring.metric_log import MetricLog
from kennel.emulator.runners.base import Runner
from kennel.emulator.state.home import Home
from kennel.emulator.state.shortages import Patience, passes, told
from kennel.emulator.state.store import Document

_ROOM_S = 60.0  # that the values of a job that has ended are kept for until a full disk has room
_TURN_S = 1.0  # for one look at the logs
_REST_S = 60.0  # for what they have when the job has ended


class JobMetrics:
    """Keeps both series of a job's measurements."""

    def __init__(self, name: str, home: Home, runner: Runner, patience: Patience, warn: Callable[[str], None]) -> None:
        """`warn` is told what is not measured any more."""
        self._patience = patience
        self._name = name
        self._home = home
        self._runner = runner
        self._warn = warn
        self._log: MetricLog | None = None
        self._hosts: HostMetrics | None = None

    @property
    def is_read(self) -> bool:
        """Whether this process has looked at the logs."""
        return self._log is not None

    def watch(self, document: Document) -> None:
        """Begin to measure the hosts of an attempt."""
        folder = self._home.job_dir(self._name)
        self._hosts = HostMetrics(
            self._runner, life(document).handles, folder / "hosts", self._home.host_metrics_file(self._name)
        )
        self._hosts.start()

    def leave(self) -> None:
        """The hosts have ended."""
        if self._hosts:
            self._hosts.leave()

    def read(self, document: Document, logs: list[Path], *, ended: bool = False) -> bool:
        """Look at the logs, for about a second or, when they have ended, a minute; whether there was a new value.

        Raises:
            LeavingError: the server ends while there is no room for the values of logs that have ended.
        """
        if self._log is None:
            definitions = document["AlgorithmSpecification"].get("MetricDefinitions") or []
            self._log = MetricLog(definitions, self._home.metrics_file(self._name), self._warn)
        try:
            found = self._log.update(logs, _REST_S if ended else _TURN_S)
        except OSError as error:
            if ended or not passes(error):
                raise
            return False  # no file can be opened now; the next look may succeed
        if ended:
            self._keep(self._log)
        if ended and self._log.is_behind(logs):
            self._warn(f"The end of the log was not searched for metrics: there was more than {_REST_S:g} s can do.")
        return found

    def _keep(self, log: MetricLog) -> None:
        try:
            self._patience.until_done(log.keep, _ROOM_S)
        except OSError as error:
            self._warn(told(f"Some metrics are missing: {error}", error))

    def final(self) -> list[Document]:
        """FinalMetricDataList."""
        return self._log.final() if self._log else []

    def close(self) -> None:
        """The job has ended, or the server does."""
        self.leave()
        if self._log:
            self._log.close()
