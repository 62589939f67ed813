"""Programs that are forked from one that has imported what they need: like those that are begun anew, but sooner."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kennel.emulator.runners import forking
from kennel.emulator.runners.base import Exited, Lost, RunnerError, Running
from kennel.emulator.runners.child import LAUNCH, PROCESS
from kennel.emulator.runners.forking import ForkServers, Preload
from kennel.emulator.runners.process import ProcessRunner

MODULE = "forked"  # forked.py, beside this file
PRELOAD = Preload(MODULE, MODULE)
ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent), "PYTHONUNBUFFERED": "1", "WHO": "me"}

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="programs are forked on Linux only")


class Forks:
    """Runs of that program, all by one server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = ProcessRunner(folder / "runs", folder / "images.json")
        self.servers = ForkServers(folder / "fork-server.log")

    def start(self, word: str, name: str, **changes: Any) -> bool:
        run = self.folder / "runs" / name
        run.mkdir(parents=True, exist_ok=True)
        base = self.folder / f"base-{name}"
        base.mkdir(exist_ok=True)
        launch = {
            "command": ["python", "-m", MODULE, word], "folder": str(base), "environ": ENVIRON,
            "log_file": str(run / "log"), "labels": {}, "port": None, "hosts_file": None, "isolated": False,
            "read_only": [], **changes,
        }  # fmt: skip
        (run / LAUNCH).write_text(json.dumps(launch))
        return self.servers.start(PRELOAD, "1", ENVIRON, run)

    def begin(self, word: str, name: str, **changes: Any) -> str:
        """Start it as soon as the server is ready; the run's handle."""
        wait_for(lambda: self.start(word, name, **changes))
        return str(self.folder / "runs" / name)

    def end(self, handle: str) -> int:
        """The exit status, once it has ended."""
        state = wait_for(lambda: None if isinstance(one := self.runner.state(handle), Running) else one)
        assert isinstance(state, Exited), state
        return state.code

    def lines(self, handle: str) -> list[str]:
        log = Path(handle) / "log"
        return [json.loads(line)["message"] for line in log.read_text().splitlines()] if log.exists() else []

    def server_pid(self) -> int:
        [server] = self.servers._servers.values()
        return server._process.pid


def wait_for(condition: Callable[[], Any], timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    made = Forks(tmp_path)
    yield made
    for handle in (tmp_path / "runs").glob("*/"):
        made.runner.remove(str(handle))


def test_nobody_waits_for_the_first_imports(forks: Forks) -> None:
    assert not forks.start("first", "one")


def test_each_program_is_a_new_one_with_what_was_imported(forks: Forks) -> None:
    for word in ("first", "second"):
        handle = forks.begin(word, word)
        assert forks.end(handle) == 0
        seen, inner, last = forks.lines(handle)
        assert seen == f"['preloaded', '{word}'] base-{word} me 1"
        assert inner == "no input True 4"  # the three streams and the listing's own
        assert last == "bye"


def test_its_end_is_known_as_that_of_any_program(forks: Forks) -> None:
    assert forks.end(forks.begin("fail", "fail")) == 3
    handle = forks.begin("raise", "raise")
    assert forks.end(handle) == 1
    assert forks.lines(handle)[-2:] == ["ValueError: told to", "bye"]


def test_it_outlives_the_server_and_is_stopped_by_the_runner(forks: Forks) -> None:
    stopped, killed = (forks.begin("sleep", name) for name in ("stopped", "killed"))
    os.kill(forks.server_pid(), 9)
    wait_for(lambda: len(forks.lines(stopped)) == len(forks.lines(killed)) == 2)
    assert forks.runner.state(stopped) == forks.runner.state(killed) == Running()
    forks.runner.signal(stopped)
    forks.runner.kill(killed)
    assert (forks.end(stopped), forks.end(killed)) == (128 + 15, 128 + 9)


def test_nothing_is_left_when_its_parent_is_killed(forks: Forks) -> None:
    handle = forks.begin("sleep", "one")
    process = json.loads((Path(handle) / PROCESS).read_text())
    os.kill(process["pid"], 9)
    wait_for(lambda: not Path(f"/proc/{process['program']}").exists())
    wait_for(lambda: isinstance(forks.runner.state(handle), Lost))


def test_a_server_that_has_ended_is_replaced(forks: Forks) -> None:
    forks.begin("first", "one")
    before = forks.server_pid()
    os.kill(before, 9)
    assert not forks.start("second", "two")
    forks.begin("second", "two")
    assert forks.server_pid() != before


def test_what_cannot_be_entered_is_said(forks: Forks) -> None:
    forks.begin("first", "one")
    with pytest.raises(RunnerError, match="No such file or directory: '/nowhere'"):
        forks.start("second", "two", folder="/nowhere")
    assert forks.end(forks.begin("third", "three")) == 0


def test_servers_are_few_and_end_with_whoever_asks_them(forks: Forks) -> None:
    for identity in ("1", "2", "3"):
        forks.servers.start(PRELOAD, identity, ENVIRON, forks.folder)
    known = [server._process for server in forks.servers._servers.values()]
    assert len(known) == forking._SERVERS
    for process in known:
        assert process.stdin is not None
        process.stdin.close()  # as the end of the emulator does, whatever ended it
        assert process.wait(30) == 0
