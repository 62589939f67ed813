"""What programs print that logs are broken by is, byte for byte, what GetLogEvents gives, on both runners."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kennel.emulator.runners.processes import descendants
from tests.emulator.containers import printer
from tests.emulator.emulator_harness import Emulator
from tests.emulator.jobs.conftest import BOTH
from tests.emulator.printing import (
    IMAGE,
    PRINTER,
    emulator,
    finish,
    lines,
    messages,
    printed,
    start,
    wait_for_lines,
)
from tests.images import build_program, docker

ODD_VARIABLES = {
    "MY_RETURN": "ends in a return\r",
    "MY_WINDOWS": "two\r\nlines\r\n",
    "MY_LINES": "a\nb=c\n#d\n\n",
    "MY_QUOTES": "\"double\" 'single' `back` $HOME \\n",
    "MY_SIGNS": "=#= ",
    "MY_BLANKS": "  \tboth ends \t ",
    "MY_EMPTY": "",
    "MY_SEPARATORS": "a\x0bb\x0cc\x85d\u2028e\ufefff",
}


@pytest.fixture(scope="session")
def printer_image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_program(base_image, PRINTER, IMAGE, tmp_path_factory.mktemp("printer"))


@pytest.fixture(params=BOTH)
def runner(request: pytest.FixtureRequest) -> str:
    if request.param == "docker":
        request.getfixturevalue("printer_image")
    return str(request.param)


@pytest.fixture
def server(runner: str, tmp_path: Path) -> Iterator[Emulator]:
    with emulator(tmp_path / "home", runner) as made:
        yield made


def test_odd_lines_arrive_as_they_were_printed(server: Emulator, tmp_path: Path) -> None:
    start(server, "odd", tmp_path, "oddities")
    finish(server, "odd")
    assert messages(server, "odd") == lines(printer.oddities())


def test_what_is_longer_than_an_event_becomes_several_that_make_the_line(server: Emulator, tmp_path: Path) -> None:
    start(server, "long", tmp_path, "long")
    finish(server, "long")
    found = messages(server, "long")
    assert max(len(message.encode()) for message in found) <= printer.EVENT
    for line in lines(printer.long_lines()):
        joined, count = "", 0
        while len(joined) < len(line):
            joined += found.pop(0)
            count += 1
        assert joined == line
        assert count <= 1 + 2 * len(line.encode()) // printer.EVENT, "cut for no reason"
    assert found == []


def test_two_streams_do_not_cut_each_others_lines(server: Emulator, runner: str, tmp_path: Path) -> None:
    start(server, "streams", tmp_path, "streams")
    finish(server, "streams")
    found = messages(server, "streams")
    whole = {stream: lines(b"".join(data for one, data in printer.streams() if one == stream)) for stream in (1, 2)}
    if runner == "docker":
        assert [line for line in found if line.startswith("o")] == whole[1]
        assert [line for line in found if line.startswith("e")] == whole[2]
        assert len(found) == 400
    else:  # both are one pipe, as in a terminal
        assert found == lines(b"".join(data for _, data in printer.streams()))


def test_odd_values_of_the_environment_arrive_whole(server: Emulator, tmp_path: Path) -> None:
    start(server, "variables", tmp_path, "variables", Environment=ODD_VARIABLES)
    finish(server, "variables")
    assert json.loads(messages(server, "variables")[0]) == ODD_VARIABLES


def test_a_killed_emulator_goes_on_where_it_was(runner: str, tmp_path: Path) -> None:
    with emulator(tmp_path / "home", runner) as server:
        start(server, "killed", tmp_path, "slow", HyperParameters={"steps": "100"})
        wait_for_lines(server, "killed", 15)
        server.stop(signal.SIGKILL)
    with emulator(tmp_path / "home", runner) as server:
        job = finish(server, "killed")
        assert messages(server, "killed") == lines(printed(tmp_path, "killed"))
    assert job["FinalMetricDataList"][0]["Value"] == 99


@pytest.mark.docker
def test_a_connection_that_was_killed_is_made_again(printer_image: str, tmp_path: Path) -> None:  # noqa: ARG001
    with emulator(tmp_path / "home", "docker") as server:
        start(server, "cut", tmp_path, "slow", HyperParameters={"steps": "80"})
        for count in (10, 30, 50):
            wait_for_lines(server, "cut", count)
            for process in descendants(server.process.pid):
                if b"dial-stdio" in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(process, signal.SIGKILL)
        finish(server, "cut")
        assert messages(server, "cut") == lines(printed(tmp_path, "cut"))


@pytest.mark.docker
def test_a_restarted_container_is_followed_to_its_second_end(printer_image: str, tmp_path: Path) -> None:  # noqa: ARG001
    with emulator(tmp_path / "home", "docker") as server:
        start(server, "again", tmp_path, "slow", HyperParameters={"steps": "60"})
        wait_for_lines(server, "again", 20)
        [container] = docker("ps", "--quiet", "--filter=name=job.again.algo-1$").stdout.split()
        docker("restart", container)
        job = finish(server, "again")
        found = lines(printed(tmp_path, "again").replace(b"'s end", b"'s end\n"))
        assert messages(server, "again") == found
        assert "told to end, without a line's end" in found
        assert found[-1].startswith("life ")
    assert job["FinalMetricDataList"][0]["Value"] == 59
