"""A job's or an endpoint's log lines, read through CloudWatch Logs' API, and the metrics that they tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kennel.contract.metrics import metric_definitions
from kennel.driver.session.refusals import explained, is_missing

TRAINING_GROUP = "/aws/sagemaker/TrainingJobs"
TRANSFORM_GROUP = "/aws/sagemaker/TransformJobs"
ENDPOINT_GROUP = "/aws/sagemaker/Endpoints"  # followed by /NAME
_EPOCH = re.compile(r"\bepoch=(\d+)/(\d+)\b")
_METRICS = [(entry["Name"], re.compile(entry["Regex"])) for entry in metric_definitions()]


@dataclass(frozen=True)
class LogLine:
    """A line of a container."""

    timestamp_ms: int
    stream: str
    message: str


@dataclass(frozen=True)
class Epoch:
    """What the trainer tells at the end of an epoch."""

    number: int
    total: int
    metrics: Mapping[str, float]

    def __str__(self) -> str:
        """As a person reads it."""
        return f"epoch {self.number}/{self.total}  " + describe_metrics(self.metrics)


@dataclass
class LogReader:
    """Reads a log from its beginning; each call of `read` gives what came since the last one."""

    client: Any  # of CloudWatch Logs
    group: str
    prefix: str = ""  # of the streams: a job's begin with its name and a slash
    _tokens: dict[str, str] = field(default_factory=dict)

    def read(self) -> list[LogLine]:
        """New lines of all streams, by time. Empty while there is no log yet.

        Raises:
            DriverError: the log may not be read.
        """
        from botocore.exceptions import ClientError

        with explained("Reading the log"):
            try:
                lines = [line for stream in self._streams() for line in self._new(stream)]
            except ClientError as error:
                if is_missing(error):
                    return []
                raise
        return sorted(lines, key=lambda line: line.timestamp_ms)

    def _streams(self) -> list[str]:
        pages = self.client.get_paginator("describe_log_streams").paginate(
            logGroupName=self.group, **({"logStreamNamePrefix": self.prefix} if self.prefix else {})
        )
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]

    def _new(self, stream: str) -> Iterator[LogLine]:
        while True:
            token = self._tokens.get(stream)
            page = self.client.get_log_events(
                logGroupName=self.group,
                logStreamName=stream,
                startFromHead=True,
                **({"nextToken": token} if token else {}),
            )
            self._tokens[stream] = page["nextForwardToken"]
            for event in page["events"]:
                yield LogLine(event["timestamp"], stream, event["message"].rstrip("\n"))
            if not page["events"] or page["nextForwardToken"] == token:
                return


def read_metrics(message: str) -> dict[str, float]:
    """The metrics of a line, by the expressions that the request itself defines."""
    found = {name: expression.search(message) for name, expression in _METRICS}
    return {name: float(match[1]) for name, match in found.items() if match}


def read_epoch(message: str) -> Epoch | None:
    """The epoch that a line tells of, or None."""
    match = _EPOCH.search(message)
    return Epoch(int(match[1]), int(match[2]), read_metrics(message)) if match else None


def describe_metrics(metrics: Mapping[str, float]) -> str:
    """Metrics in one line: `train_loss 0.3644  validation_accuracy 0.9412`."""
    return "  ".join(f"{name} {_short(name, value)}" for name, value in metrics.items())


def _short(name: str, value: float) -> str:
    return f"{value:.1f}" if name == "images_per_second" else f"{value:.4f}"
