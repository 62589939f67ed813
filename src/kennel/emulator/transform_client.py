"""HTTP between a batch transform job and one of its containers: limits asked for, records sent, failures tried again.

Sources: developer guide, "Custom Inference Code with Batch Transform"; API reference, ModelClientConfig.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_PARAMETERS_S = 10.0  # for the answer to GET /execution-parameters
_FIRST_PAUSE_S = 0.5  # before the first retry; each further one is twice as long
_BLOCK_BYTES = 1 << 16
_SHOWN_CHARS = 300  # of a container's answer
_TRY_AGAIN = (408, 429)  # beside every 5xx: another answer may come later


class InvocationError(Exception):
    """A record has no answer: the sentence says what the container did."""


class AbandonedError(Exception):
    """The job does not want the answer any more."""


@dataclass
class TransformClient:
    """Invokes one container, from several threads at once, over connections that are kept."""

    host: str
    port: int
    headers: Mapping[str, str]
    timeout_s: float  # of one try
    retries: int
    abandoned: threading.Event
    ended: Callable[[], str | None]  # how the container ended, if it has
    note: Callable[[str], None] = lambda _: None  # told every failed try
    _own: threading.local = field(default_factory=threading.local)

    def execution_parameters(self) -> dict[str, Any]:
        """What the container says at GET /execution-parameters; nothing where it does not know that path.

        Raises:
            InvocationError: it answers neither with a JSON object nor with 404.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_PARAMETERS_S)
        try:
            connection.request("GET", "/execution-parameters")
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise InvocationError(f"GET /execution-parameters: {_named(error)}") from error
        finally:
            connection.close()
        if status in (404, 405, 501):
            return {}
        with contextlib.suppress(ValueError):
            value = json.loads(body)
            if status == 200 and isinstance(value, dict):
                return value
        raise InvocationError(f"GET /execution-parameters: {_answer(status, body)}; JSON or 404 is meant")

    def invoke(self, payload: bytes) -> bytes:
        """The answer to one POST /invocations, after retries.

        Raises:
            InvocationError: there is none.
            AbandonedError: the job has ended meanwhile.
        """
        pause_s = _FIRST_PAUSE_S
        for left in range(self.retries, -1, -1):
            problem, again = "", True
            try:
                status, body = self._post(payload)
                if 200 <= status < 300:
                    return body
                problem, again = _answer(status, body), status >= 500 or status in _TRY_AGAIN
            except (OSError, http.client.HTTPException) as error:
                problem = self._lost(error)
            if self.abandoned.is_set():
                raise AbandonedError
            self.note(problem)
            if not again or not left or self.ended():
                raise InvocationError(problem)
            if self.abandoned.wait(pause_s):
                raise AbandonedError
            pause_s *= 2
        raise AssertionError  # the last round returns or raises

    def _lost(self, error: Exception) -> str:
        connection = self._connection()
        connection.close()
        if isinstance(error, TimeoutError):
            return f"the container did not answer within {self.timeout_s:g} s (InvocationsTimeoutInSeconds)"
        return f"the container gave no answer: {_named(error)}"

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(self.host, self.port)
        found: http.client.HTTPConnection = self._own.connection
        return found

    def _post(self, payload: bytes) -> tuple[int, bytes]:
        """Status and body. A connection that was kept and has been closed since is opened anew."""
        connection = self._connection()
        for fresh in (connection.sock is None, True):
            deadline = time.monotonic() + self.timeout_s
            connection.timeout = self.timeout_s
            if connection.sock:
                connection.sock.settimeout(self.timeout_s)
            try:
                connection.request("POST", "/invocations", payload, dict(self.headers))
                response = connection.getresponse()
                return response.status, _read(response, connection, deadline)
            except (ConnectionError, http.client.BadStatusLine):
                connection.close()
                if fresh:
                    raise
        raise AssertionError  # the second round returns or raises


def _read(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    """The whole body, in time: a socket's own limit begins anew with every byte."""
    blocks = []
    while block := response.read1(_BLOCK_BYTES):
        blocks.append(block)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if connection.sock:
            connection.sock.settimeout(left_s)
    response.close()  # only then the connection takes another request
    if response.length:  # read1 does not tell an answer that was cut off
        raise http.client.IncompleteRead(b"".join(blocks), response.length)
    return b"".join(blocks)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _answer(status: int, body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    return f"the container answered {status}" + (f": {text[:_SHOWN_CHARS]}" if text else "")
