"""The runner's own promises, which endpoints rely on as jobs do."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kennel.emulator.runners import make_runner
from kennel.emulator.runners.base import STANDBY_LABEL, Exited, Launch, Lost, Mount, RunnerError, Running, State
from kennel.emulator.runners.docker import DockerRunner
from kennel.emulator.runners.process import ProcessRunner
from kennel.emulator.state.home import Home
from tests.emulator.jobs.conftest import BOOT, IMAGE, Platform, both
from tests.images import docker

SERVE = (
    "import http.server, os, signal, sys\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200); self.end_headers(); self.wfile.write(b'pong ' + sys.argv[1].encode())\n"
    "port = int(os.environ.get('SAGEMAKER_BIND_TO_PORT', 8080))\n"
    "http.server.ThreadingHTTPServer(('0.0.0.0', port), H).serve_forever()\n"
)


def launch(platform: Platform, program: str, **changes: Any) -> Launch:
    values: dict[str, Any] = {
        "name": "endpoint.test.1",
        "image": IMAGE,
        "entrypoint": ("python3", "-u", "-c", program),
        "arguments": ("serve",),
        "log_file": platform.folder / "run.log",
        "base_dir": platform.folder / "base",
        "labels": {"test": "1"},
    }
    (platform.folder / "base").mkdir(exist_ok=True)
    return Launch(**(values | changes))


def wait(platform: Platform, handle: str) -> State:
    deadline = time.monotonic() + 20
    while isinstance(state := platform.runner.state(handle), Running):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return state


def messages(platform: Platform) -> list[str]:
    return [json.loads(line)["message"] for line in (platform.folder / "run.log").read_text().splitlines()]


@both
def test_what_listens_is_reached_on_a_free_port_of_this_machine(platform: Platform) -> None:
    handle = platform.runner.start(launch(platform, SERVE, port=8080, hostname="model"))
    host, port = platform.runner.address(handle, 8080)
    assert host == "127.0.0.1"

    def ask() -> str:
        try:
            return urllib.request.urlopen(f"http://{host}:{port}/ping", timeout=2).read().decode()
        except OSError:
            return ""

    deadline = time.monotonic() + 20
    while not (answer := ask()):
        assert time.monotonic() < deadline, messages(platform)
        time.sleep(0.1)
    assert answer == "pong serve"
    platform.runner.remove(handle)
    with pytest.raises(ConnectionError), socket.create_connection((host, port), 2):
        pass


@both
def test_exit_status_and_whole_log_are_there_when_it_has_ended(platform: Platform) -> None:
    program = "import sys\nfor i in range(3000): print('line', i)\nsys.exit(9)"
    handle = platform.runner.start(launch(platform, program))
    assert wait(platform, handle) == Exited(9)
    assert messages(platform) == [f"line {i}" for i in range(3000)]


@both
def test_kill_ends_it_with_137_and_remove_forgets_it(platform: Platform) -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(1000)"
    handle = platform.runner.start(launch(platform, program))
    while not (platform.folder / "run.log").exists() or "up" not in messages(platform):
        time.sleep(0.05)
    platform.runner.signal(handle)
    time.sleep(0.3)
    assert platform.runner.state(handle) == Running()
    platform.runner.kill(handle)
    state = wait(platform, handle)
    assert isinstance(state, Exited)
    assert state.code == 137
    assert platform.runner.find("test") == {handle: "1"}
    platform.runner.remove(handle)
    assert platform.runner.find("test") == {}
    assert isinstance(platform.runner.state(handle), Lost)
    for call in (platform.runner.signal, platform.runner.kill, platform.runner.remove):
        call(handle)  # nothing, and no error


@both
def test_a_run_of_the_same_name_is_replaced(platform: Platform) -> None:
    first = platform.runner.start(launch(platform, "import time; time.sleep(1000)"))
    second = platform.runner.start(launch(platform, "import time; time.sleep(1000)"))
    assert platform.runner.find("test") == {second: "1"}
    assert first == second or isinstance(platform.runner.state(first), Lost)


@both
def test_another_runner_object_finds_it_again(platform: Platform) -> None:
    handle = platform.runner.start(launch(platform, "import time; time.sleep(5); print('late')"))
    other = make_runner(platform.runner.name, platform.home)
    assert other.find("test", "1") == {handle: "1"}
    assert other.find("test", "2") == {}
    assert other.state(handle) == Running()
    while isinstance(other.state(handle), Running):
        time.sleep(0.05)
    assert other.state(handle) == Exited(0)
    assert messages(platform)[-1] == "late"


@both
def test_runs_of_another_home_are_not_seen(platform: Platform, tmp_path: Path) -> None:
    platform.runner.start(launch(platform, "import time; time.sleep(1000)"))
    assert make_runner(platform.runner.name, Home(tmp_path / "elsewhere")).find("test") == {}


@both
def test_a_program_that_is_not_there_is_told_at_the_start_and_leaves_nothing(platform: Platform) -> None:
    with pytest.raises(RunnerError, match="no/such/program"):
        platform.runner.start(launch(platform, "", entrypoint=("/no/such/program",)))
    assert platform.runner.find("test") == {}


@both
def test_mounts_appear_where_they_were_asked_for(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/w").write_text("W")
    program = BOOT.split("exec")[0] + "print((base / 'model/w').read_text())"
    mounts = (Mount(tmp_path / "model", "/opt/ml/model", read_only=True),)
    handle = platform.runner.start(launch(platform, program, mounts=mounts))
    assert wait(platform, handle) == Exited(0)
    assert messages(platform) == ["W"]


@both
def test_what_a_program_prints_while_it_waits_is_in_the_log_of_its_job(platform: Platform) -> None:
    (platform.folder / "base/input").mkdir(parents=True)
    program = BOOT.split("exec")[0] + (
        "print('early')\n"
        "(base / 'input/up').touch()\n"
        "while not (base / 'input/standby.json').exists(): time.sleep(0.02)\n"
        "print('late')"
    )
    mounts = (Mount(platform.folder / "base/input", "/opt/ml/input"),)
    waiting = launch(
        platform, program, labels={STANDBY_LABEL: "1"}, mounts=mounts, log_file=platform.folder / "standby.log"
    )
    handle = platform.runner.start(waiting)
    platform.wait_for((platform.folder / "base/input/up").exists)
    assert platform.runner.state(handle) == Running()
    platform.runner.assign(handle, {"test": "1"})
    assert platform.runner.state(handle) == Running()
    platform.runner.begin(handle, launch(platform, program, mounts=mounts))
    assert wait(platform, handle) == Exited(0)
    assert messages(platform) == ["early", "late"]
    assert not (platform.folder / "standby.log").exists()


@both
def test_the_last_words_of_what_is_removed_are_in_its_log(platform: Platform) -> None:
    (platform.folder / "base/input").mkdir(parents=True)
    mounts = (Mount(platform.folder / "base/input", "/opt/ml/input"),)
    program = BOOT.split("exec")[0] + (
        "def told(*_):\n"
        "    for number in range(2000): print('end', number)\n"
        "    os.write(1, b'no newline')\n"
        "    (base / 'input/told').touch()\n"
        "    time.sleep(1000)\n"
        "signal.signal(signal.SIGTERM, told)\n"
        "print('up')\n"
        "time.sleep(1000)\n"
    )
    handle = platform.runner.start(launch(platform, program, mounts=mounts))
    log = platform.folder / "run.log"
    platform.wait_for(lambda: log.exists() and "up" in messages(platform))
    platform.runner.signal(handle)
    platform.wait_for((platform.folder / "base/input/told").exists)
    platform.runner.remove(handle)
    assert messages(platform) == ["up", *(f"end {number}" for number in range(2000)), "no newline"]


@both
def test_two_who_look_at_a_run_do_not_double_its_lines(platform: Platform) -> None:
    handle = platform.runner.start(launch(platform, "import time\nfor n in range(40): print(n); time.sleep(0.02)"))
    other = make_runner(platform.runner.name, platform.home)
    while isinstance(other.state(handle), Running):
        time.sleep(0.05)
    assert wait(platform, handle) == Exited(0)
    assert messages(platform) == [str(number) for number in range(40)]


@both
def test_paths_labels_and_arguments_may_hold_odd_characters(platform: Platform, tmp_path: Path) -> None:
    source = tmp_path / "a,b:c d=\"e\" 'f'#"
    source.mkdir()
    (source / "w").write_text("W")
    target = "/opt/ml/input/g,h:i j"
    (platform.folder / "base/input").mkdir(parents=True)
    program = BOOT.split("exec")[0] + "print(json.dumps([(base / 'input/g,h:i j/w').read_text(), *sys.argv[1:]]))"
    arguments = ("", "--volume=/:/x", " two  words\t", "a\nb\r", "\"'$HOME`", "ü🐕")
    run = launch(
        platform,
        program,
        mounts=(Mount(source, target, read_only=True),),
        arguments=arguments,
        labels={"test": 'a=b,c "d" {{.ID}}'},
        log_file=tmp_path / "k,l:m n/run.log",
    )
    handle = platform.runner.start(run)
    assert platform.runner.find("test", 'a=b,c "d" {{.ID}}') == {handle: 'a=b,c "d" {{.ID}}'}
    other = make_runner(platform.runner.name, platform.home)  # knows the log by its label
    while isinstance(state := other.state(handle), Running):
        time.sleep(0.05)
    assert state == Exited(0)
    [line] = (tmp_path / "k,l:m n/run.log").read_text().splitlines()
    assert json.loads(json.loads(line)["message"]) == ["W", *arguments]


@both
def test_a_value_that_no_program_can_be_given_is_refused(platform: Platform) -> None:
    with pytest.raises(RunnerError, match="null byte|character NUL"):
        platform.runner.start(launch(platform, "", environ={"MY": "a\0b"}))


@both
def test_variables_are_not_seen_in_the_process_list(platform: Platform) -> None:
    secrets = {"TOKEN": "s3cret-value", "KEY": "-- begin\ns3cret-value\n-- end\n", "OTHER": "s3cret-value\r"}
    handle = platform.runner.start(launch(platform, "import time; time.sleep(1000)", environ=secrets))
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.name != str(os.getpid())]
    assert not any(b"s3cret-value" in line for line in lines)
    platform.runner.remove(handle)


def test_an_image_without_a_command_says_where_to_name_one(platform: Platform) -> None:
    with pytest.raises(RunnerError, match="Name it in .*images.json"):
        platform.runner.start(launch(platform, "", image="registry/unknown:1", entrypoint=()))


@pytest.mark.parametrize(
    ("image", "module"),
    [
        ("000000000000.dkr.ecr.eu-central-1.amazonaws.com/kennel-train:abc", "kennel.classifier"),
        ("kennel-serve@sha256:123", "serving"),
        ("localhost:5000/kennel-serve-mms:1", "serving"),
    ],
)
def test_kennels_own_images_stand_for_its_own_programs(platform: Platform, image: str, module: str) -> None:
    assert isinstance(platform.runner, ProcessRunner)
    assert platform.runner.command(image)[1:] == ["-m", module]


def test_a_path_outside_the_base_folder_is_refused_by_plain_processes(platform: Platform) -> None:
    with pytest.raises(ValueError, match="is not below /opt/ml"):
        platform.runner.seen_path(platform.folder, "/opt/ml/../other")


def test_a_runner_that_does_not_exist_is_an_error(platform: Platform) -> None:
    with pytest.raises(ValueError, match="There is no runner 'podman'"):
        make_runner("podman", platform.home)


@pytest.mark.docker
@pytest.mark.parametrize("runner_name", ["docker"], indirect=True)
def test_files_of_a_container_are_handed_over(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "left/sub").mkdir(parents=True)
    (tmp_path / "left/sub/f").write_text("f")
    DockerRunner(platform.home.path, owner=(1234, 1235)).own(tmp_path / "left", IMAGE)
    assert {((p.stat().st_uid, p.stat().st_gid)) for p in (tmp_path / "left").rglob("*")} == {(1234, 1235)}


@pytest.mark.docker
@pytest.mark.parametrize("runner_name", ["docker"], indirect=True)
def test_isolated_containers_of_one_network_reach_each_other_and_nothing_else(platform: Platform) -> None:
    program = (
        "import socket\n"
        "print(len({socket.gethostbyname(h) for h in ('algo-1', 'algo-2')}))\n"
        "try: socket.create_connection(('198.51.100.1', 9), 3)\n"
        "except OSError: print('cut off')\n"
    )
    sleeping = launch(
        platform, "import time; time.sleep(1000)", name="two", hostname="algo-2", network="net", isolated=True
    )
    platform.runner.start(sleeping)
    one = launch(platform, program, name="one", hostname="algo-1", network="net", isolated=True)
    handle = platform.runner.start(one)
    assert wait(platform, handle) == Exited(0)
    [network] = docker("network", "ls", "--quiet", f"--filter=label=kennel.home={platform.home.path}").stdout.split()
    assert docker("network", "inspect", "--format={{.Internal}}", network).stdout == "true\n"
    assert messages(platform)[-2:] == ["2", "cut off"]
