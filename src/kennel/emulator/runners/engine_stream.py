"""A container's output from the engine, frame by frame, over the connection that the docker command has to it.

`docker logs` would mix the engine's times into lines of more than 16 KiB. The engine itself sends each piece with its
stream, its length and its time, and `docker system dial-stdio` brings that from every engine that docker can reach: a
remote one, Docker Desktop's, or that of a context.
Source: Docker Engine API, ContainerLogs and ContainerAttach ("Stream format").
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import IO, cast

from kennel.emulator.runners.base import RunnerError
from kennel.emulator.runners.docker_command import MissingContainerError

STDOUT, STDERR = 1, 2
_HEAD_BYTES = 8
_READ_BYTES = 64 * 1024
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) ")


@dataclass(frozen=True)
class Frame:
    """What the engine got from a container at once: a line with its end, or up to 16 KiB of one."""

    stream: int
    stamp: bytes  # RFC 3339; the pieces of a line have the same
    data: bytes


class EngineStream:
    """The frames of one container's log. A context manager; any thread may `close` it, which ends the reading."""

    def __init__(self, container: str, *, follow: bool, tail: int | None = None) -> None:
        """Ask for all of them, or for the last `tail`; with `follow`, for those to come as well.

        Raises:
            RunnerError: docker cannot be started.
        """
        wanted = f"follow={int(follow)}&stdout=1&stderr=1&timestamps=1&tail={'all' if tail is None else tail}"
        self._container = container
        self._request = f"GET /containers/{container}/logs?{wanted} HTTP/1.1\r\nHost: docker\r\n\r\n"
        try:
            self._process = subprocess.Popen(
                ["docker", "system", "dial-stdio"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=_READ_BYTES,
            )
        except OSError as error:
            raise RunnerError(f"docker could not be started: {error}") from error

    def __enter__(self) -> EngineStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):  # what could not be sent any more
                cast(IO[bytes], pipe).close()
        self._process.wait()

    def close(self) -> None:
        """End the connection."""
        self._process.kill()

    def frames(self) -> Iterator[Frame]:
        """All of them, until the engine says that there are no more.

        Raises:
            MissingContainerError: the engine has no such container.
            RunnerError: the engine does not answer, or the connection ended early.
        """
        try:
            yield from self._frames(self._answer())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._process.kill()
            said = cast(IO[bytes], self._process.stderr).read().decode("utf-8", "replace").strip()
            raise RunnerError(f"The engine's log of {self._container[:12]} broke off: {said or repr(error)}") from error

    def _answer(self) -> http.client.HTTPResponse:
        request = cast(IO[bytes], self._process.stdin)
        request.write(self._request.encode())
        request.flush()
        answer = http.client.HTTPResponse(_Connection(cast(IO[bytes], self._process.stdout)))  # type: ignore[arg-type]
        answer.begin()
        if answer.status == http.HTTPStatus.OK:
            return answer
        text = answer.read().decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            text = str(json.loads(text)["message"])
        if answer.status == http.HTTPStatus.NOT_FOUND:
            raise MissingContainerError(text)
        raise RunnerError(f"The engine gave no log of {self._container[:12]}: {text}")

    def _frames(self, answer: http.client.HTTPResponse) -> Iterator[Frame]:
        held = b""
        while data := answer.read1(_READ_BYTES):
            held = held + data if held else data
            place = 0
            while len(held) - place >= _HEAD_BYTES:
                end = place + _HEAD_BYTES + int.from_bytes(held[place + 4 : place + _HEAD_BYTES])
                if end > len(held):
                    break
                yield _frame(held[place], held[place + _HEAD_BYTES : end])
                place = end
            held = held[place:]
        if held:
            raise ValueError("a frame is not whole")


class _Connection:
    """What HTTPResponse wants of a socket."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def makefile(self, *_: object) -> IO[bytes]:
        return self._file


def _frame(stream: int, payload: bytes) -> Frame:
    stamp = _STAMP.match(payload)
    if stream not in (STDOUT, STDERR) or stamp is None:  # the engine's own words
        raise ValueError(payload.decode("utf-8", "replace").strip())
    return Frame(stream, stamp[0][:-1], payload[stamp.end() :])
