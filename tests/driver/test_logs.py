"""Metric lines, and a real CloudWatch Logs API (moto's) read in pieces."""

from __future__ import annotations

import math
import time

import pytest

from kennel.contract.metrics import metric_line
from kennel.driver.jobs.logs import TRAINING_GROUP, LogReader, describe_metrics, read_epoch, read_metrics
from tests.driver.conftest import Aws


def test_what_the_trainer_prints_is_read_back() -> None:
    values = {"train_loss": 0.25, "validation_accuracy": 0.75, "images_per_second": 71.0}
    epoch = read_epoch(metric_line(values, epoch="3/10"))
    assert epoch is not None
    assert (epoch.number, epoch.total) == (3, 10)
    assert epoch.metrics == values
    assert str(epoch) == "epoch 3/10  train_loss 0.2500  validation_accuracy 0.7500  images_per_second 71.0"


def test_other_lines_and_values_that_are_no_numbers_are_passed_over() -> None:
    assert read_epoch("Loader: 1 processes") is None
    assert read_metrics(metric_line({"train_loss": math.nan})) == {}
    assert describe_metrics({}) == ""


def put(aws: Aws, stream: str, *messages: str) -> None:
    now = int(time.time() * 1000)
    aws.client("logs").put_log_events(
        logGroupName=TRAINING_GROUP,
        logStreamName=stream,
        logEvents=[{"timestamp": now + place, "message": message} for place, message in enumerate(messages)],
    )


def test_each_line_of_each_stream_is_read_once(aws: Aws) -> None:
    client = aws.client("logs")
    reader = LogReader(client, TRAINING_GROUP, "job-1/")
    assert reader.read() == []  # no group yet
    client.create_log_group(logGroupName=TRAINING_GROUP)
    for stream in ("job-1/algo-1-100", "job-1/algo-2-100", "job-10/algo-1-1"):
        client.create_log_stream(logGroupName=TRAINING_GROUP, logStreamName=stream)
    put(aws, "job-1/algo-1-100", "a", "b")
    put(aws, "job-10/algo-1-1", "of another job")
    assert [line.message for line in reader.read()] == ["a", "b"]
    assert reader.read() == []
    put(aws, "job-1/algo-2-100", "c")
    put(aws, "job-1/algo-1-100", "d")
    assert sorted(line.message for line in reader.read()) == ["c", "d"]


@pytest.mark.parametrize("count", [1, 2500])
def test_long_logs_come_whole(aws: Aws, count: int) -> None:
    client = aws.client("logs")
    client.create_log_group(logGroupName=TRAINING_GROUP)
    client.create_log_stream(logGroupName=TRAINING_GROUP, logStreamName="j/algo-1-1")
    put(aws, "j/algo-1-1", *[f"line {number}" for number in range(count)])
    assert [line.message for line in LogReader(client, TRAINING_GROUP, "j/").read()] == [
        f"line {number}" for number in range(count)
    ]
