"""The local SageMaker as a process: found, started on first use, ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kennel.driver.errors import DriverError
from kennel.driver.home import Home

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
_POLL_S = 0.05
_LOG_LINES = 8
_SERVE = (sys.executable, "-m", "kennel.emulator", "serve")
_children: list[subprocess.Popen[bytes]] = []  # kept, so that Python does not complain of a child that still runs


@dataclass(frozen=True)
class Emulator:
    """A local SageMaker that answers."""

    pid: int
    url: str
    region: str
    access_key_id: str
    secret_access_key: str
    runner: str = ""  # what it starts images with

    def environment(self) -> dict[str, str]:
        """The variables with which any AWS client talks to it."""
        services = ("SAGEMAKER", "SAGEMAKER_RUNTIME", "CLOUDWATCH_LOGS", "CLOUDWATCH", "STS")
        return {
            **{f"AWS_ENDPOINT_URL_{service}": self.url for service in services},
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }


def find(home: Home) -> Emulator | None:
    """The local SageMaker of this home, if one answers."""
    try:
        state = json.loads(home.emulator_file.read_text(encoding="utf-8"))
        secrets = json.loads(home.credentials_file.read_text(encoding="utf-8"))
        found = Emulator(
            int(state["pid"]), state["url"], state["region"], secrets["AccessKeyId"], secrets["SecretAccessKey"],
            state.get("runner", ""),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if _answers(found.url) else None


def start(
    home: Home,
    say: Callable[[str], None],
    *,
    runner: str = "auto",
    port: int = 0,
    timeout_s: float = START_TIMEOUT_S,
) -> Emulator:
    """Find the local SageMaker, or start it as a process of its own that outlives this one.

    Args:
        home: its folder.
        say: where to tell that it is started.
        runner: what it starts images with, `docker`, `process` or `auto`; one that runs already keeps its own.
        port: where it listens; 0: any free one.
        timeout_s: how long it may take to answer.

    Raises:
        DriverError: it ended, or did not answer in time.
    """
    running = find(home)
    if running:
        return running
    with _lock(home):
        running = find(home)  # another client may have been first
        if running:
            return running
        say(f"Starting the local SageMaker in {home.path}")
        with home.server_log.open("ab") as log:
            child = subprocess.Popen(
                [*_SERVE, "--home", str(home.path), "--port", str(port), "--runner", runner],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in this terminal is not for it
            )
        _children.append(child)
        return _wait_until_it_answers(home, child, timeout_s)


def stop(home: Home, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """End the local SageMaker; False when none runs. Jobs are found again by the next one.

    Raises:
        DriverError: it does not end.
    """
    running = find(home)
    if running is None:
        return False
    if not _is_ours(running.pid):
        raise DriverError(f"Process {running.pid}, which {home.emulator_file} names, is not the local SageMaker.")
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while _exists(running.pid):
        if time.monotonic() > deadline:
            raise DriverError(
                f"The local SageMaker (process {running.pid}) did not end in {timeout_s:g} s.",
                f"See {home.server_log}; kill -9 {running.pid} is safe, the next one finds its state.",
            )
        time.sleep(_POLL_S)
    return True


def _wait_until_it_answers(home: Home, child: subprocess.Popen[bytes], timeout_s: float) -> Emulator:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        running = find(home)
        if running:
            return running
        if child.poll() is not None:
            raise DriverError(
                f"The local SageMaker ended with status {child.returncode}: {_tail(home.server_log)}",
                f"Its log is {home.server_log}; kennel doctor looks for causes.",
            )
        time.sleep(_POLL_S)
    child.terminate()
    raise DriverError(
        f"The local SageMaker did not answer in {timeout_s:g} s: {_tail(home.server_log)}",
        f"Its log is {home.server_log}.",
    )


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy to this machine
    try:
        with opener.open(f"{url.rstrip('/')}/", timeout=5):
            return True
    except (OSError, ValueError):  # refused, reset, no such port, or an HTTP status of somebody else
        return False


def _is_ours(pid: int) -> bool:
    """Whether the process is a local SageMaker: a number in an old file may by now be somebody else's."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        command = shown.stdout
    return "kennel.emulator" in command


def _exists(pid: int) -> bool:
    for child in _children:
        if child.pid == pid:
            return child.poll() is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(line for line in lines[-_LOG_LINES:] if line.strip())
    return "no log"


@contextlib.contextmanager
def _lock(home: Home) -> Iterator[None]:
    home.make()
    with home.start_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
