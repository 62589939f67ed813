"""Log files of any size are read from both ends, cheaply."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from kennel.emulator.state.log_files import LogFiles
from kennel.emulator.state.log_lines import EVENT_BYTES, Cutter, LogWriter, encode, last_line, log_tail

GROUP = "/aws/sagemaker/TrainingJobs"


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """The events of bytes that come in pieces of these sizes."""
    cutter, found, place = Cutter(), [], 0
    for size in sizes:
        found += list(cutter.feed(data[place : place + size]))
        place += size
    found += [*cutter.feed(data[place:]), *cutter.end_line()]
    assert cutter.end == len(data)
    return found


def test_how_the_bytes_came_makes_no_other_events() -> None:
    chance = random.Random(14)  # noqa: S311 - the same each time
    parts = [
        chance.choice([b"\n", b"\r", b"x", "é🐕".encode() * 40_000, b"\xff" * 99_000, b"y" * EVENT_BYTES])
        for _ in range(60)
    ]
    data = b"".join(parts)
    whole = cut(data)
    assert b"".join(whole) == data.replace(b"\n", b"")
    assert max(len(one.decode("utf-8", "replace").encode()) for one in whole) <= EVENT_BYTES
    for _ in range(20):
        assert cut(data, *(chance.randrange(1, 200_000) for _ in range(90))) == whole


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_the_two_ends_of_a_log_agree(tmp_path: Path, size: int) -> None:
    files = LogFiles(tmp_path)
    files.append(GROUP, "s", ["first", "x" * size, "", "last"])
    forward = list(files.read(GROUP, "s"))
    assert list(files.read_back(GROUP, "s", 1 << 40)) == forward[::-1]
    assert list(files.read_back(GROUP, "s", forward[2].start)) == forward[1::-1]
    file = files.file(GROUP, "s")
    with file.open("ab") as log:
        log.write(b'{"timestamp": 5, "mess')  # being written
    assert list(files.read_back(GROUP, "s", 1 << 40)) == forward[::-1]
    assert files.first_and_last(GROUP, "s") == (forward[0], forward[-1])
    assert last_line(file) == "last"
    assert log_tail(file, 2) == (["x" * min(size, 2000), "last"] if size else ["first", "last"])


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(encode(1, b"whole") + encode(2, b"torn" * 50_000)[:-1])
    writer = LogWriter(file)
    assert writer.last("whole")["message"] == "whole"
    assert writer.last("torn") == {}
    writer.write([encode(3, b"next")])
    writer.close()
    assert [json.loads(line)["message"] for line in file.read_bytes().splitlines()] == ["whole", "next"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 4,096 bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_does_not_fit_on_a_full_disk_waits_and_tears_no_line(tmp_path: Path, small_files: None) -> None:  # noqa: ARG001
    tries: list[int] = []

    def is_over() -> bool:
        tries.append((tmp_path / "log").stat().st_size)
        if len(tries) == 2:  # there is room again
            resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return False

    writer = LogWriter(tmp_path / "log", is_over)
    assert writer.write([encode(1, b"a" * 3000)])
    assert writer.write([encode(2, b"b" * 3000)])
    writer.close()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [json.loads(line)["message"][0] for line in lines] == ["a", "b"]
    assert tries == [len(lines[0]) + 1] * 2, "a torn line was there to be read"


def bytes_read() -> int:
    """How many bytes this process has read from files until now."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_the_end_of_a_long_log_is_read_without_the_rest(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    file = files.file(GROUP, "s")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"".join(encode(number, b"line %d" % number) for number in range(200_000)))
    before = bytes_read()
    last = [event.message for event, _ in zip(files.read_back(GROUP, "s", 1 << 40), range(1000), strict=False)]
    assert (last[0], last[-1], last_line(file)) == ("line 199999", "line 199000", "line 199999")
    assert files.first_and_last(GROUP, "s") is not None
    assert 0 < bytes_read() - before < file.stat().st_size / 10
