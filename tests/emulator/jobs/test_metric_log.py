"""Metrics are searched for in a process of its own: what takes for ever there holds nobody up."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kennel.contract.presence import start_time
from kennel.emulator.measuring.metric_log import MetricLog
from kennel.emulator.runners.processes import descendants
from tests.emulator.jobs.conftest import Platform, both

FOR_EVER = r"((a+)+)$"  # on a row of a's that something else follows: twice as long with every a
Make = Callable[..., MetricLog]


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, warnings: list[str]) -> Iterator[Make]:
    made: list[MetricLog] = []

    def log(**regexes: str) -> MetricLog:
        definitions = [{"Name": name, "Regex": regex} for name, regex in regexes.items()]
        made.append(MetricLog(definitions, tmp_path / "metrics.jsonl", warnings.append))
        return made[-1]

    yield log
    for one in made:
        one.close()


def write(file: Path, *lines: tuple[float, str]) -> Path:
    with file.open("a", encoding="utf-8") as log:
        log.writelines(json.dumps({"timestamp": round(at * 1000), "message": text}) + "\n" for at, text in lines)
    return file


def series(tmp_path: Path) -> list[tuple[float, str, float]]:
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    return [(one["timestamp"], one["name"], one["value"]) for one in map(json.loads, lines)]


def final(log: MetricLog) -> dict[str, float]:
    return {one["MetricName"]: one["Value"] for one in log.final()}


def test_the_logs_of_all_hosts_are_one_series_by_time(make: Make, tmp_path: Path) -> None:
    one = write(tmp_path / "1", (1, "x=1"), (3, "x=3"))
    two = write(tmp_path / "2", (2, "x=2"), (4, "x=4"))
    log = make(x="x=([0-9])")
    assert log.update([one, two], 1)
    assert series(tmp_path) == [(1, "x", 1), (2, "x", 2), (3, "x", 3), (4, "x", 4)]
    assert final(log) == {"x": 4}
    assert not log.update([one, two], 1)


def test_a_line_that_is_being_written_is_read_when_it_is_whole(make: Make, tmp_path: Path) -> None:
    file = write(tmp_path / "1", (1, "x=1"))
    whole = json.dumps({"timestamp": 2000, "message": "x=2"}) + "\n"
    log = make(x="x=([0-9])")
    with file.open("a", encoding="utf-8") as log_file:
        log_file.write(whole[:20])
        log_file.flush()
        assert log.update([file], 1)
        assert final(log) == {"x": 1}
        log_file.write(whole[20:])
    assert log.update([file], 1)
    assert final(log) == {"x": 2}


def test_an_expression_that_takes_for_ever_is_given_up_and_the_others_go_on(
    make: Make, tmp_path: Path, warnings: list[str]
) -> None:
    file = write(tmp_path / "1", (1, "aaaa"), (2, "x=1"), (3, "a" * 200 + "!"), (4, "x=2"), (5, "aa"))
    log = make(bad=FOR_EVER.replace("(a+)+", "(?:a+)+"), x="x=([0-9])")
    while log.is_behind([file]):
        log.update([file], 60)
    assert final(log) == {"x": 2}
    assert warnings == [
        "MetricDefinitions: the Regex of 'bad' took more than 1 s on one line of the log; that metric is not read any "
        "more. Write it without one repetition inside another."
    ]


def test_a_metric_is_found_wherever_it_is_in_a_line(make: Make, tmp_path: Path, warnings: list[str]) -> None:
    far = "y" * 260_000
    file = write(tmp_path / "1", (1, far), (2, "x=2" + far), (3, far[:5000] + "x=3" + far[5000:]), (4, far + "x=4"))
    log = make(x="x=([0-9])", greedy=".*x=([0-9])")
    while log.is_behind([file]):
        log.update([file], 60)
    assert series(tmp_path) == [(at, name, at) for at in (2, 3, 4) for name in ("x", "greedy")]
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=1\rx=2\rx=3", 3),
        ("x=1\rx=2\r", 2),
        ("\rx=1\rx=2\rdone", 2),
        ("x=7\r", 7),
        ("\r" * 2000 + "x=8", 8),
        ("".join(f"\r{n}% x={n}" for n in range(20_000)), 19_999),
    ],
)
def test_of_a_progress_bar_the_last_state_counts(make: Make, tmp_path: Path, text: str, value: float) -> None:
    log = make(x=r"x=([0-9]+)$")
    assert log.update([write(tmp_path / "1", (1, text))], 60)
    assert series(tmp_path) == [(1, "x", value)]


def test_what_a_killed_writer_left_ends_no_search(make: Make, tmp_path: Path) -> None:
    file = write(tmp_path / "1", (1, "x=1"))
    with file.open("a") as log_file:
        log_file.write('{"timestamp": 1' + "\n")
    log = make(x="x=([0-9])")
    assert log.update([write(file, (2, "x=2"))], 60)
    assert final(log) == {"x": 2}


def test_what_is_left_of_a_long_log_is_read_in_the_next_turn(make: Make, tmp_path: Path) -> None:
    file = write(tmp_path / "1", *[(number, f"x={number} " + "y" * 4000) for number in range(1000)])
    log = make(x="x=([0-9]+)")
    assert log.update([file], 0)
    assert log.is_behind([file])
    assert 0 < final(log)["x"] < 999
    assert log.update([file], 60)
    assert not log.is_behind([file])
    assert [number for _, _, number in series(tmp_path)] == list(range(1000))


def test_a_search_that_was_killed_is_told_and_ends_nothing(make: Make, tmp_path: Path, warnings: list[str]) -> None:
    file = write(tmp_path / "1", (1, "x=1"))
    before = set(descendants(os.getpid()))
    log = make(x="x=([0-9])")
    assert log.update([file], 1)
    [search] = set(descendants(os.getpid())) - before
    os.kill(search, signal.SIGKILL)
    write(file, (2, "x=2"))
    assert not log.update([file], 1)
    assert final(log) == {"x": 1}
    assert [text.partition(":")[0] for text in warnings] == ["No metrics are read from the log any more"]
    assert not log.is_behind([file])
    log.close()
    assert start_time(search) is None


@both
def test_a_jobs_catastrophic_expression_holds_nothing_up(platform: Platform) -> None:
    definitions = [{"Name": "bad", "Regex": FOR_EVER}, {"Name": "loss", "Regex": "loss=([0-9.]+)"}]
    document = platform.complete(
        "print('a' * 200 + '!'); print('loss=0.25')", AlgorithmSpecification={"MetricDefinitions": definitions}
    )
    assert [(one["MetricName"], one["Value"]) for one in document["FinalMetricDataList"]] == [("loss", 0.25)]
    assert "the Regex of 'bad' took more than 1 s" in platform.warnings()
