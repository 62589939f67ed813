"""A docker daemon of a test's own, which it can restart; containers go on meanwhile (live restore)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import docker, unavailable

_START_S = 120


class Daemon:
    """One daemon, in a folder with a short name: a socket's path has 107 bytes at most."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder}/sock"

    def docker(self, *arguments: str, check: bool = True) -> str:
        return docker("--host", self.url, *arguments, check=check).stdout.strip()

    def start(self) -> None:
        places = [f"--{name}={self._folder / name}" for name in ("data-root", "exec-root", "pidfile")]
        alone = ["--bridge=none", "--iptables=false", "--ip-masq=false", "--live-restore"]
        # In a network of its own: a daemon without a bridge removes docker0, which another one may use.
        command = ["unshare", "--net", "dockerd", "--host", self.url, *places, *alone, *self._options]
        deadline = time.monotonic() + _START_S
        while docker("--host", self.url, "info", check=False).returncode:
            if self._process is None or self._process.poll() is not None:  # its containerd can be too slow for it
                with (self._folder / "log").open("ab") as log:
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            if time.monotonic() > deadline:
                unavailable(f"no daemon can be started here: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(60)


@contextlib.contextmanager
def private_daemon(*options: str) -> Iterator[Daemon]:
    """Start one, and end it with all that it ran."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("only root on Linux, with dockerd on PATH, can start a daemon")
    folder = Path(tempfile.mkdtemp(prefix="kennel-d-"))
    daemon = Daemon(folder, *options)
    try:
        daemon.start()
        yield daemon
    finally:
        for container in daemon.docker("ps", "--all", "--quiet", check=False).split():
            daemon.docker("rm", "--force", container, check=False)
        daemon.end()
        subprocess.run(["umount", str(folder / "data-root")], capture_output=True, check=False)  # if one was killed
        shutil.rmtree(folder, ignore_errors=True)
