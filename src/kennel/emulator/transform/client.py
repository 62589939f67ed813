"""HTTP between a batch transform job and one of its containers: limits asked for, records sent, failures tried again.

Sources: developer guide, "Custom Inference Code with Batch Transform"; API reference, ModelClientConfig.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.emulator.containers.client import Answer, BrokenError, Connections, NotSentError
from kennel.emulator.threads.loop_thread import LoopClosedError, LoopThread

_PARAMETERS_S = 10.0  # for the answer to GET /execution-parameters
_FIRST_PAUSE_S = 0.5  # before the first retry; each further one is twice as long
_SHOWN_CHARS = 300  # of a container's answer
_TRY_AGAIN = (408, 429)  # beside every 5xx: another answer may come later


class InvocationError(Exception):
    """A record has no answer: the sentence says what the container did."""


class AbandonedError(Exception):
    """The job does not want the answer any more."""


@dataclass
class TransformClient:
    """Invokes one container, from several threads at once, over connections that are kept."""

    loop: LoopThread  # the one in which the connections live
    connections: Connections
    headers: Mapping[str, str]
    timeout_s: float  # of one try
    retries: int
    abandoned: threading.Event
    ended: Callable[[], str | None]  # how the container ended, if it has
    note: Callable[[str], None] = lambda _: None  # told every failed try

    def execution_parameters(self) -> dict[str, Any]:
        """What the container says at GET /execution-parameters; nothing where it does not know that path.

        Raises:
            InvocationError: it answers neither with a JSON object nor with 404.
            AbandonedError: the server ends.
        """
        try:
            answer = self._request("GET", "/execution-parameters", {}, b"", _PARAMETERS_S)
        except (NotSentError, BrokenError, TimeoutError) as error:
            problem = str(error) or f"no answer in {_PARAMETERS_S:g} s"
            raise InvocationError(f"GET /execution-parameters: {problem}") from error
        status, body = answer.status, answer.body
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
            AbandonedError: the job has ended meanwhile, or the server ends.
        """
        pause_s = _FIRST_PAUSE_S
        for left in range(self.retries, -1, -1):
            problem, again = "", True
            try:
                answer = self._request("POST", "/invocations", self.headers, payload, self.timeout_s)
                if 200 <= answer.status < 300:
                    return answer.body
                problem = _answer(answer.status, answer.body)
                again = answer.status >= 500 or answer.status in _TRY_AGAIN
            except TimeoutError:
                problem = f"the container did not answer within {self.timeout_s:g} s (InvocationsTimeoutInSeconds)"
            except (NotSentError, BrokenError) as error:
                problem = f"the container gave no answer: {error}"
            if self.abandoned.is_set():
                raise AbandonedError
            self.note(problem)
            if not again or not left or self.ended():
                raise InvocationError(problem)
            if self.abandoned.wait(pause_s):
                raise AbandonedError
            pause_s *= 2
        raise AssertionError  # the last round returns or raises

    def close(self) -> None:
        """Let go of the connections."""
        with contextlib.suppress(LoopClosedError):  # which has let go of them
            self.loop.run(self.connections.close())

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        """The whole answer within the time."""

        async def exchange() -> Answer:
            async with asyncio.timeout(timeout_s):
                return await self.connections.request(method, path, headers, body, sys.maxsize)

        try:
            return self.loop.run(exchange())
        except LoopClosedError as error:
            raise AbandonedError from error


def _answer(status: int, body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    return f"the container answered {status}" + (f": {text[:_SHOWN_CHARS]}" if text else "")
