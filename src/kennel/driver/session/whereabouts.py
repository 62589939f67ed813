"""Whether a local SageMaker serves a home, and where: the one place that reads emulator.json.

That file alone is not believed. Whoever is killed leaves it behind, and its port and its number may be another
program's by now. The home's lock says whether anybody serves, and which process that is (kennel.contract.presence).
Then the server that answers must prove that it is that process.
"""

from __future__ import annotations

import http.client
import io
import json
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kennel.contract.presence import CHALLENGE_HEADER, Process, holder, is_proven
from kennel.driver.errors import DriverError
from kennel.driver.session.home import Home

ANSWER_S = 5.0  # for the whole answer
_ANSWER_BYTES = 64 * 1024
_LOOPBACK = "127.0.0.1"


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


@dataclass(frozen=True)
class Seen:
    """What there is of a home's local SageMaker."""

    is_held: bool  # a process serves the home
    process: Process | None = None  # which one
    emulator: Emulator | None = None  # it has proven that it answers
    problem: str = ""  # why a process that serves the home cannot be used
    hint: str = ""
    may_change: bool = False  # the problem may be over in a moment

    def refusal(self) -> DriverError:
        """The problem, to be raised."""
        return DriverError(self.problem, self.hint)


class _NoAnswerError(Exception):
    """The message says what came instead of an answer."""


class _SilentError(_NoAnswerError):
    """It may answer later."""


def look(home: Home, timeout_s: float = ANSWER_S) -> Seen:
    """Ask the home's lock, and whoever holds it.

    Raises:
        DriverError: the home cannot be read.
    """
    try:
        found = holder(home.emulator_lock)
    except OSError as error:
        raise DriverError(
            f"{home.emulator_lock} cannot be read: {error.strerror}.", "Is KENNEL_HOME a folder of yours?"
        ) from error
    if found is None:
        return Seen(is_held=False)
    if found.process is None:
        return _unnamed(home, timeout_s)
    state, process = read_state(home), found.process
    if state.get("pid") != process.pid:
        return Seen(
            True, process, problem=f"The local SageMaker of {home.path} (process {process.pid}) does not listen.",
            hint="It starts or ends; try again in a moment.", may_change=True,
        )  # fmt: skip
    return _asked(home, process, state, timeout_s)


def read_state(home: Home) -> dict[str, Any]:
    """What emulator.json says; nothing where it is none. It may be left over from a process that was killed."""
    try:
        state = json.loads(home.emulator_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _asked(home: Home, process: Process, state: Mapping[str, Any], timeout_s: float) -> Seen:
    """What the process that holds the lock answers where it says that it listens."""
    who = f"The local SageMaker of {home.path} (process {process.pid})"
    kill = f"If it stays so, kill -9 {process.pid} is safe: the next one finds its state. Its log is {home.server_log}."
    try:
        secret = json.loads(home.credentials_file.read_text(encoding="utf-8"))
        url, key, key_secret = str(state["url"]), str(secret["AccessKeyId"]), str(secret["SecretAccessKey"])
        emulator = Emulator(process.pid, url, str(state["region"]), key, key_secret, str(state.get("runner", "")))
        port = _port(url)
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{home.emulator_file} or {home.credentials_file} cannot be used: {error!r}."
        return Seen(True, process, problem=problem, hint=f"kill {process.pid} ends its server; kennel up starts anew.")
    challenge = secrets.token_hex(16)
    try:
        answer = _answer(port, challenge, timeout_s)
    except _SilentError as error:
        return Seen(True, process, problem=f"{who} {error}", hint=kill, may_change=True)
    except _NoAnswerError as error:
        return Seen(True, process, problem=f"{who} is not what answers at {url}: {error}", hint=kill)
    if is_proven(answer, challenge, key_secret, process, port):
        return Seen(True, process, emulator)
    return Seen(True, process, problem=f"{who} is not what answers at {url}: {_stranger(answer)}", hint=kill)


def _unnamed(home: Home, timeout_s: float) -> Seen:
    """A process holds the lock that has not said which one it is: it begins, or it is too old to say so."""
    state = read_state(home)
    try:
        answer = _answer(_port(str(state.get("url"))), secrets.token_hex(16), timeout_s)
    except (_NoAnswerError, ValueError):
        answer = {}
    if "kennel" in answer and "proof" not in answer:
        return Seen(
            True, problem=f"{home.path} is served by an earlier version ({answer['kennel']}), which does not name its "
            f"home: {state.get('url')}, process {state.get('pid')}.",
            hint=f"See that it is kennel.emulator (ps -p {state.get('pid')} -o args), end it with kill "
            f"{state.get('pid')}, and kennel up starts this version; jobs go on.",
        )  # fmt: skip
    return Seen(
        True, problem=f"{home.emulator_lock} is held by a process that does not say which one it is.",
        hint=f"It may be starting, or run in a container or elsewhere. fuser -v {home.emulator_lock} shows it.",
        may_change=True,
    )  # fmt: skip


def _port(url: str) -> int:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname != _LOOPBACK or not parts.port:
        raise ValueError(f"'{url}' is no address of this machine")
    return parts.port


def _stranger(answer: Mapping[str, Any]) -> str:
    if "kennel" not in answer:
        return "it is another web server."
    if "proof" not in answer:
        return f"it is a local SageMaker of an earlier version ({answer['kennel']}), which does not name its home."
    return f"it is the local SageMaker of {answer.get('home')} (process {answer.get('pid')})."


def _answer(port: int, challenge: str, timeout_s: float) -> dict[str, Any]:
    """What GET / answers to a challenge; an empty object where that is no local SageMaker's.

    Raises:
        _NoAnswerError: nobody listens, nothing comes in time, or it is no HTTP.
    """
    raw = _exchange(port, challenge, time.monotonic() + timeout_s, timeout_s)
    answer = http.client.HTTPResponse(_Received(raw))  # type: ignore[arg-type]  # all that it asks of a socket
    try:
        answer.begin()
        body = answer.read()
    except (http.client.HTTPException, ValueError):
        raise _NoAnswerError("it is a program that does not speak HTTP.") from None
    try:
        value = json.loads(body) if answer.status == http.HTTPStatus.OK else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _exchange(port: int, challenge: str, deadline: float, timeout_s: float) -> bytes:
    """All that is answered. A socket's own limit begins anew with every byte, so the time left is set each time."""
    request = (
        f"GET / HTTP/1.1\r\nHost: {_LOOPBACK}:{port}\r\nConnection: close\r\n{CHALLENGE_HEADER}: {challenge}\r\n\r\n"
    )
    received = b""
    try:
        with socket.create_connection((_LOOPBACK, port), timeout_s) as connection:
            connection.sendall(request.encode("ascii"))
            while len(received) < _ANSWER_BYTES:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                block = connection.recv(_ANSWER_BYTES)
                if not block:
                    return received
                received += block
            return received
    except TimeoutError:
        raise _SilentError(f"does not answer on port {port} within {timeout_s:g} s.") from None
    except OSError as error:
        if received:
            return received
        raise _SilentError(f"does not answer on port {port}: {error.strerror or error}.") from None


class _Received:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)
