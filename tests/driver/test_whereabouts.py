"""emulator.json is not believed: who serves a home is asked of its lock, and who answers must prove it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kennel.driver.errors import DriverError
from kennel.driver.session import connection
from kennel.driver.session.home import Home
from kennel.driver.session.whereabouts import look
from tests.driver.conftest import Kennel

# A server of the first version: it holds the lock, does not write into it, and answers with its version only.
FIRST_VERSION = """
import fcntl, http.server, json, os, pathlib, sys
home = pathlib.Path(sys.argv[1])
lock = (home / "emulator.lock").open("a")
fcntl.flock(lock, fcntl.LOCK_EX)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"kennel":"0.1.0"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
url = f"http://127.0.0.1:{server.server_port}"
about = {"pid": os.getpid(), "port": server.server_port, "url": url, "region": "us-east-1", "runner": "process"}
(home / "emulator.json").write_text(json.dumps(about))
print("listens", flush=True)
server.serve_forever()
"""


class _Agreeable(BaseHTTPRequestHandler):
    """A web server that says 200 and {} to anything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def foreign() -> Iterator[int]:
    """The port of somebody else's web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Agreeable)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody may end."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    assert process.poll() is None, "it was shot at"
    process.kill()
    process.wait()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Home]:
    """A home with a local SageMaker."""
    home = Home(folder)
    connection.start(home, lambda _: None, runner="process", timeout_s=120)
    try:
        yield home
    finally:
        found = look(home)
        if found.process:
            connection.stop(home)


def write_state(home: Home, **members: Any) -> None:
    home.make()
    state = json.loads(home.emulator_file.read_text()) if home.emulator_file.exists() else {"region": "us-east-1"}
    home.emulator_file.write_text(json.dumps({**state, **members}))


def test_a_stale_file_that_names_a_web_server_and_a_reused_number_is_passed_over(
    kennel: Kennel, foreign: int, bystander: subprocess.Popen[bytes]
) -> None:
    """What a killed server leaves: a port and a number that are others' by now, and a key."""
    home = Home(kennel.home)
    url = f"http://127.0.0.1:{foreign}"
    write_state(home, pid=bystander.pid, port=foreign, url=url, runner="process")
    home.credentials_file.write_text(json.dumps({"AccessKeyId": "KENNELX", "SecretAccessKey": "x" * 40}))
    home.credentials_file.chmod(0o600)
    home.emulator_lock.write_text(json.dumps({"pid": bystander.pid, "started": "0"}))
    assert "local SageMaker  not running" in kennel("status").out
    assert kennel("down").out == "The local SageMaker does not run.\n"
    assert "which nobody believes" in kennel("doctor").out
    up = kennel("up", "--runner", "process", "--json").json
    try:
        assert up["url"] != url
        assert up["pid"] != bystander.pid
        assert kennel("jobs").out == "No jobs.\n"
        assert kennel("down").out == "The local SageMaker has ended.\n"
    finally:
        connection.stop(home)


def test_down_does_not_end_another_homes_server(kennel: Kennel, tmp_path: Path) -> None:
    with served(tmp_path / "other") as other:
        home = Home(kennel.home)
        home.make()
        for file in (other.emulator_file, other.credentials_file, other.emulator_lock):  # a home that was copied
            shutil.copy(file, home.path)
        assert kennel("down").out == "The local SageMaker does not run.\n"
        theirs = look(other).emulator
        assert theirs is not None
        up = kennel("up", "--runner", "process", "--json").json
        assert up["pid"] != theirs.pid
        assert up["url"] != theirs.url
        assert kennel("down").out == "The local SageMaker has ended.\n"
        assert look(other).emulator == theirs


def test_a_number_in_emulator_json_is_not_shot_at(kennel: Kennel, bystander: subprocess.Popen[bytes]) -> None:
    """The server runs, and its file names another process: the one that holds the lock is ended."""
    with served(kennel.home) as home:
        server = look(home).process
        assert server is not None
        write_state(home, pid=bystander.pid)
        assert f"(process {server.pid}) does not listen" in kennel("status").out
        assert kennel("down").out == "The local SageMaker has ended.\n"
        assert not server.is_alive


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a program that does something with every connection."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)

        def accept() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as client:
                    serve(client)

        thread = threading.Thread(target=accept)
        thread.start()
        yield int(listener.getsockname()[1])
        over.set()
        thread.join(60)


def _drip(client: socket.socket) -> None:
    for _ in range(100):
        client.sendall(b"H")  # a byte now and then: each read is quick, and there is no end
        time.sleep(0.1)


def _babble(client: socket.socket) -> None:
    client.recv(65536)
    client.sendall(b"220 mail.example ESMTP\r\n")


def test_whoever_answers_in_the_servers_place_is_told_apart(kennel: Kennel, tmp_path: Path, foreign: int) -> None:
    with served(kennel.home) as home, served(tmp_path / "other") as other:
        true = json.loads(home.emulator_file.read_text())

        def problem(port: int) -> str:
            write_state(home, port=port, url=f"http://127.0.0.1:{port}")
            seen = look(home, 1.0)
            assert seen.emulator is None
            assert "kill -9" in seen.hint
            return seen.problem

        assert problem(foreign).endswith(
            f"is not what answers at http://127.0.0.1:{foreign}: it is another web server."
        )
        theirs = json.loads(other.emulator_file.read_text())
        assert f"it is the local SageMaker of {other.path} (process {theirs['pid']})" in problem(theirs["port"])
        with listening(_babble) as port:
            assert "a program that does not speak HTTP" in problem(port)
        with listening(_drip) as port:
            begun = time.monotonic()
            assert "does not answer on port" in problem(port)
            assert time.monotonic() - begun < 5
        assert "refused" in problem(port).lower()
        refused = kennel("jobs")
        assert (refused.code, refused.out) == (1, "")
        assert "does not answer on port" in refused.err
        write_state(home, url="http://example.com:80")
        assert "no address of this machine" in look(home).problem
        home.emulator_file.write_text(json.dumps(true))
        assert look(home).emulator is not None


def test_a_server_that_hangs_is_told_and_down_still_knows_it(kennel: Kennel) -> None:
    with served(kennel.home) as home:
        server = look(home).process
        assert server is not None
        hung = subprocess.run(["kill", "-STOP", str(server.pid)], check=True)
        assert hung.returncode == 0
        try:
            shown = kennel("status").out
            assert f"(process {server.pid}) does not answer on port" in shown
            assert f"kill -9 {server.pid} is safe" in shown
            with pytest.raises(DriverError, match="does not answer on port"):
                connection.start(home, lambda _: None, timeout_s=1)
            with pytest.raises(DriverError, match=rf"process {server.pid}\) did not end in 1 s"):
                connection.stop(home, timeout_s=1)
            examined = kennel("doctor")
            assert "does not answer on port" in examined.out
        finally:
            subprocess.run(["kill", "-CONT", str(server.pid)], check=True)
        deadline = time.monotonic() + 120
        while server.is_alive:  # the signal of `stop` was waiting for it
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not look(home).is_held


def test_a_server_of_the_first_version_is_named_and_left_alone(kennel: Kennel) -> None:
    home = Home(kennel.home)
    home.make()
    command = [sys.executable, "-c", FIRST_VERSION, str(home.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as old:
        assert old.stdout is not None
        assert old.stdout.readline() == "listens\n"
        try:
            for command in ("up", "down", "jobs"):
                done = kennel(command)
                assert done.code == 1
                assert "is served by an earlier version (0.1.0), which does not name its home" in done.err
                assert f"end it with kill {old.pid}" in done.err
            assert "an earlier version (0.1.0)" in kennel("status").out
            assert old.poll() is None
        finally:
            old.send_signal(signal.SIGKILL)


def test_every_path_to_a_home_finds_its_server(kennel: Kennel) -> None:
    (kennel.folder / "link").symlink_to(kennel.home)
    with served(kennel.home) as home:
        pid = json.loads(home.emulator_file.read_text())["pid"]
        for path in (kennel.folder / "link", Path("home"), Path("../") / kennel.folder.name / "link"):
            assert kennel("up", "--json", KENNEL_HOME=str(path)).json["pid"] == pid
        assert kennel("down", KENNEL_HOME="link").out == "The local SageMaker has ended.\n"


def test_a_home_that_cannot_be_read_is_a_sentence(kennel: Kennel) -> None:
    kennel.home.write_text("no folder")
    done = kennel("status")
    assert done.code == 1
    assert "emulator.lock cannot be read: Not a directory" in done.err
    assert "Traceback" not in done.err
