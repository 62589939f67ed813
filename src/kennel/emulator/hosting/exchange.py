"""One request to one container: its headers, its limits, and the error that a client is told.

Source: API reference of the SageMaker runtime, InvokeEndpoint; the sentences of ModelError are AWS's own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from kennel.contract.paths import PAYLOAD_LIMIT_BYTES
from kennel.emulator.containers.client import Answer, Body, BrokenError
from kennel.emulator.documents.names import ACCOUNT
from kennel.emulator.errors import ModelError
from kennel.emulator.hosting.routes import Target
from kennel.emulator.state.log_files import LogFiles
from kennel.emulator.state.log_lines import log_tail
from kennel.emulator.state.store import Document

INVOCATION_S = 60.0
INVOCATIONS = "/invocations"
_ORIGINAL_CHARS = 4096  # of a container's body in an error
_TAIL_LINES = 3
_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "TargetModel": "X-Amzn-SageMaker-Target-Model",
}


@dataclass(frozen=True)
class Limits:
    """Of one invocation."""

    seconds: float = INVOCATION_S
    answer_bytes: int = PAYLOAD_LIMIT_BYTES


class Asker:
    """Sends invocations to containers, from an event loop."""

    def __init__(self, logs: LogFiles, region: str) -> None:
        self._logs = logs
        self._region = region

    async def ask(self, target: Target, path: str, request: Document, body: Body, limits: Limits) -> Answer:
        """A container's answer, whatever its status.

        Raises:
            NotSentError: nobody listens; nothing was sent.
            BrokenError: it was sent, but no whole answer came; the instance is looked after.
            ModelError: it took too long.
        """
        headers = {_HEADERS[member]: str(request[member]) for member in _HEADERS if member in request}
        try:
            async with asyncio.timeout(limits.seconds):
                return await target.connections.post(path, headers, body, limits.answer_bytes)
        except TimeoutError:
            raise self.error(target, 0, _TIMED_OUT) from None
        except BrokenError:
            target.suspect()
            raise

    def require_success(self, target: Target, answer: Answer) -> None:
        """Let an answer pass.

        Raises:
            ModelError: its status is not 2xx.
        """
        if not 200 <= answer.status < 300:
            raise self.error(target, answer.status, answer.body.decode("utf-8", "replace")[:_ORIGINAL_CHARS])

    def broken(self, target: Target, error: BrokenError) -> ModelError:
        """What a client is told when an answer did not come whole."""
        return self.error(target, 0, f"The container gave no whole answer: {error}.")

    def error(self, target: Target, status: int, original: str) -> ModelError:
        """A ModelError with the container's status and words, and the end of its log."""
        who = "client" if 400 <= status < 500 else "server"
        console = f"https://{self._region}.console.aws.amazon.com/cloudwatch/home?region={self._region}"
        place = f"{console}#logEventViewer:group={target.log_group}"
        tail = log_tail(self._logs.file(target.log_group, target.log_stream), _TAIL_LINES)
        hint = f" The end of its log here ({target.log_stream}): {' | '.join(tail)}" if tail else ""
        message = (
            f'Received {who} error ({status}) from primary with message "{original}". See {place} in account '
            f"{ACCOUNT} for more information.{hint}"
        )
        return ModelError(message, status, original, self._stream_arn(target))

    def _stream_arn(self, target: Target) -> str:
        return (
            f"arn:aws:logs:{self._region}:{ACCOUNT}:log-group:{target.log_group}:log-stream:"
            f"{quote(target.log_stream, safe='/')}"
        )


_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for "
    "each container in Amazon CloudWatch, resolve the issue, and try again."
)
