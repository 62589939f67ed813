"""What programs print that logs are broken by is, byte for byte, what GetLogEvents gives, on both runners."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kennel.emulator.runners.base import Exited
from kennel.emulator.runners.container_log import Follower
from kennel.emulator.runners.processes import descendants
from tests.emulator.containers import printer
from tests.emulator.emulator_harness import Emulator, wait_for
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
from tests.private_daemon import Daemon, private_daemon
from tests.small_disks import small_disk

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


def end(server: Emulator, name: str, folder: Path) -> list[str]:
    """Let a slow printer end when it has printed for some time; what it has printed."""
    wait_for_lines(server, name, len(messages(server, name)) + 12)
    (folder / "input/end").touch()
    job = finish(server, name)
    found = lines(printed(folder, name).replace(printer.TOLD, printer.TOLD + b"\n"))
    assert job["FinalMetricDataList"][0]["Value"] == int(found[-1].partition("step=")[2].split()[0])
    return found


def test_a_killed_emulator_goes_on_where_it_was(runner: str, tmp_path: Path) -> None:
    for _ in range(2):
        with emulator(tmp_path / "home", runner) as server:
            if not (tmp_path / "input").exists():
                start(server, "killed", tmp_path, "slow")
                wait_for_lines(server, "killed", 1)
            wait_for_lines(server, "killed", len(messages(server, "killed")) + 12)
            server.stop(signal.SIGKILL)
    with emulator(tmp_path / "home", runner) as server:
        expected = end(server, "killed", tmp_path)
        assert messages(server, "killed") == expected


def test_what_ended_while_there_was_no_emulator_has_its_whole_log(runner: str, tmp_path: Path) -> None:
    with emulator(tmp_path / "home", runner) as server:
        start(server, "alone", tmp_path, "slow")
        wait_for_lines(server, "alone", 3)
        server.stop(signal.SIGKILL)
    time.sleep(1)  # it prints meanwhile
    (tmp_path / "input/end").touch()
    with emulator(tmp_path / "home", runner) as server:
        finish(server, "alone")
        assert messages(server, "alone") == lines(printed(tmp_path, "alone"))


@pytest.mark.docker
def test_a_connection_that_was_killed_is_made_again(printer_image: str, tmp_path: Path) -> None:  # noqa: ARG001
    with emulator(tmp_path / "home", "docker") as server:
        start(server, "cut", tmp_path, "slow")
        for count in (10, 30, 50):
            wait_for_lines(server, "cut", count)
            for process in descendants(server.process.pid):
                if b"dial-stdio" in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(process, signal.SIGKILL)
        expected = end(server, "cut", tmp_path)
        assert messages(server, "cut") == expected


@pytest.mark.docker
def test_a_restarted_container_is_followed_to_its_last_end(printer_image: str, tmp_path: Path) -> None:  # noqa: ARG001
    with emulator(tmp_path / "home", "docker") as server:
        start(server, "again", tmp_path, "slow")
        for count in (10, 30):
            wait_for_lines(server, "again", count)
            docker("restart", *docker("ps", "--quiet", f"--filter=label=kennel.home={server.home}").stdout.split())
        expected = end(server, "again", tmp_path)
        assert messages(server, "again") == expected
        assert expected.count(printer.TOLD.decode()) == 2


@pytest.fixture(scope="module")
def daemon(printer_image: str) -> Iterator[Daemon]:
    """Its own options would keep the last kilobyte of a log, and drop what comes too fast."""
    options = [f"--log-opt={option}" for option in ("max-size=1k", "max-file=1", "mode=non-blocking")]
    with private_daemon(*options) as made:
        with subprocess.Popen(["docker", "save", printer_image], stdout=subprocess.PIPE) as saved:
            subprocess.run(["docker", "--host", made.url, "load"], stdin=saved.stdout, check=True, capture_output=True)
        yield made


@pytest.mark.docker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_engine_is_asked_again(daemon: Daemon, number: signal.Signals, tmp_path: Path) -> None:
    with emulator(tmp_path / "home", "docker", DOCKER_HOST=daemon.url) as server:
        start(server, "engine", tmp_path, "slow", EnableNetworkIsolation=True)
        wait_for_lines(server, "engine", 10)
        for _ in range(2):
            daemon.end(number)
            daemon.start()
            wait_for_lines(server, "engine", len(messages(server, "engine")) + 12)
        expected = end(server, "engine", tmp_path)
        assert messages(server, "engine") == expected


@pytest.mark.docker
def test_what_ends_while_the_engine_is_away_says_that_its_log_does_not(daemon: Daemon, tmp_path: Path) -> None:
    with emulator(tmp_path / "home", "docker", DOCKER_HOST=daemon.url) as server:
        start(server, "away", tmp_path, "slow", EnableNetworkIsolation=True)
        wait_for_lines(server, "away", 10)
        program = daemon.docker("inspect", "--format={{.State.Pid}}", daemon.docker("ps", "--quiet"))
        daemon.end()
        wait_for(lambda: "Cannot connect" in docker("--host", daemon.url, "info", check=False).stderr)
        (tmp_path / "input/end").touch()
        wait_for(lambda: not Path(f"/proc/{program}").exists())
        daemon.start()
        finish(server, "away")
        *found, said = messages(server, "away")
    assert said.startswith("[kennel]: the engine was away when this container ended")
    assert found == lines(printed(tmp_path, "away"))[: len(found)]


@pytest.mark.docker
def test_the_engines_own_log_options_drop_nothing(daemon: Daemon, tmp_path: Path) -> None:
    with emulator(tmp_path / "home", "docker", DOCKER_HOST=daemon.url) as server:
        start(server, "options", tmp_path, "oddities", EnableNetworkIsolation=True)
        finish(server, "options")
        assert messages(server, "options") == lines(printer.oddities())


@pytest.mark.docker
def test_a_log_that_finds_a_full_disk_at_its_start_is_whole_when_there_is_room(
    printer_image: str, tmp_path: Path
) -> None:
    """The one who copies it waits; had he ended, the container would have counted as running for ever."""
    with small_disk(tmp_path / "disk", 4 << 20, files=2) as disk:  # the folder itself, and the ballast
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.path / "home").mkdir()
        command = ["run", "--detach", "--entrypoint", "sh", printer_image, "-c", "seq 2000"]
        container = docker(*command).stdout.strip()
        log_file = disk.path / "home/logs/stream"
        follower = Follower(container, log_file, tmp_path / "lock")
        try:
            follower.start()
            wait_for(lambda: docker("inspect", "--format={{.State.Running}}", container).stdout.strip() == "false")
            assert follower.is_alive()
            subprocess.run(["mount", "-o", "remount,nr_inodes=100", str(disk.path)], check=True)
            disk.make_room()
            assert wait_for(lambda: follower.ended, 60) == Exited(0)
            found = [json.loads(line)["message"] for line in log_file.read_text().splitlines()]
            assert found == [str(number) for number in range(1, 2001)]
        finally:
            follower.leave()
            follower.join(30)
            docker("rm", "--force", container)
