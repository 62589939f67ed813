from pathlib import Path

import pytest

from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import TRAINING_LOGS, LogFiles

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a.b", "a" * 64, "-a", "a\n", "a b", "é"])
def test_a_name_that_could_leave_the_home_is_no_name(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path)
    for path_of in (home.job_dir, home.endpoint_dir, home.transform_dir, home.metrics_file):
        with pytest.raises(ValueError, match="resource's name"):
            path_of(name)


@pytest.mark.parametrize("group", ["", "a", "/", "/..", "/a/../b", "//a", "/a/", "/.a", "/a\n"])
def test_a_log_group_cannot_leave_the_home(tmp_path: Path, group: str) -> None:
    with pytest.raises(ValueError, match="log group"):
        LogFiles(tmp_path).file(group, "stream")


@pytest.mark.parametrize("stream", ["..", ".", "../../a", "a/../../b", "/etc/passwd", "%2e%2e", "a\0b"])
def test_a_log_stream_is_one_file_of_its_groups_folder(tmp_path: Path, stream: str) -> None:
    logs = LogFiles(tmp_path)
    assert logs.file("/a", stream).parent == tmp_path / "a"
    logs.append("/a", stream, ["line"])
    assert logs.streams("/a") == [stream]


def test_the_home_is_its_owners_alone(tmp_path: Path) -> None:
    Home(tmp_path / "home").make()
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_the_home_is_where_the_variable_says(tmp_path: Path) -> None:
    assert Home.from_environ({"KENNEL_HOME": str(tmp_path)}).path == tmp_path
    assert Home.from_environ({}).path == Path.home() / ".kennel"


def test_a_log_is_read_from_any_line_and_without_an_unfinished_one(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    logs.append(TRAINING_LOGS, "j/algo-1-1", ["one", "two\nlines"], 5)
    first, second = logs.read(TRAINING_LOGS, "j/algo-1-1")
    assert (first.timestamp_ms, first.message, second.message) == (5, "one", "two\nlines")
    with logs.file(TRAINING_LOGS, "j/algo-1-1").open("ab") as file:
        file.write(b'{"timestamp": 6, "mess')
    assert list(logs.read(TRAINING_LOGS, "j/algo-1-1", first.end)) == [second]
    assert list(logs.read(TRAINING_LOGS, "j/algo-2-1")) == []
    logs.append(TRAINING_LOGS, "j/algo-1-1", ["not glued to it", "whole"])
    assert [event.message for event in logs.read(TRAINING_LOGS, "j/algo-1-1")] == [
        "one", "two\nlines", "not glued to it", "whole",
    ]  # fmt: skip


def test_the_ends_of_a_long_log_are_found(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    assert logs.first_and_last("/a", "s") is None
    for length in (10, 50_000, 200_000):
        logs.append("/a", "s", [f"{number} " + "x" * length for number in range(3)])
        ends = logs.first_and_last("/a", "s")
        assert ends is not None
        assert ends[0].message == "0 " + "x" * 10
        assert ends[1].message == "2 " + "x" * length


def test_groups_and_streams_are_listed_and_deleted_by_their_beginnings(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    for stream in ("b/algo-1-1", "a/algo-2-1", "a/algo-1-1"):
        logs.append(TRAINING_LOGS, stream, ["x"])
    logs.append("/aws/sagemaker/Endpoints/e", "v/i-1", ["x"])
    assert logs.groups() == ["/aws/sagemaker/Endpoints/e", TRAINING_LOGS]
    assert logs.groups("/aws/sagemaker/T") == [TRAINING_LOGS]
    assert logs.streams(TRAINING_LOGS, "a/") == ["a/algo-1-1", "a/algo-2-1"]
    logs.delete(TRAINING_LOGS, "a/")
    assert logs.streams(TRAINING_LOGS) == ["b/algo-1-1"]
