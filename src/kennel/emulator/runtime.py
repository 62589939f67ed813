"""InvokeEndpoint: a request goes to an instance, its answer or what went wrong comes back.

Source: API reference of the SageMaker runtime, InvokeEndpoint; the sentences of ModelError are AWS's own.
"""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from kennel.classifier.contract import PAYLOAD_LIMIT_BYTES
from kennel.emulator.capture import Capture
from kennel.emulator.container_client import Answer, BrokenError, NotSentError
from kennel.emulator.errors import ModelError, ValidationError
from kennel.emulator.log_files import LogFiles
from kennel.emulator.operations.context import ACCOUNT
from kennel.emulator.serve_container import log_tail
from kennel.emulator.store import Document
from kennel.emulator.variants import Routes, Target, VariantRoute

INVOCATION_S = 60.0
_ORIGINAL_CHARS = 4096  # of a container's body in an error
_TAIL_LINES = 3
_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
}
_REFUSED = {
    "TargetModel": "the endpoint has one model, which is loaded when it starts; leave TargetModel out",
    "TargetContainerHostname": "a model has one container here; leave TargetContainerHostname out",
    "InferenceComponentName": "inference components are not emulated; leave InferenceComponentName out",
    "SessionId": "stateful sessions are not emulated; leave SessionId out",
    "EnableExplanations": "Clarify is not emulated; leave EnableExplanations out",
}


class Runtime:
    """Answers invocations from the event loop."""

    def __init__(self, routes: Routes, logs: LogFiles, region: str, capture: Capture) -> None:
        self._routes = routes
        self._logs = logs
        self._region = region
        self._capture = capture

    async def invoke(self, request: Document) -> Document:
        """InvokeEndpoint.

        Raises:
            AwsError: ValidationError, ModelError, ServiceUnavailable, ThrottlingException.
        """
        name = request["EndpointName"]
        route = self._routes.get(name)
        for member, advice in _REFUSED.items():
            if member in request:
                raise ValidationError(f"Endpoint {name}: {advice}.")
        variant, answer = await self.send(request, INVOCATION_S)
        shown = {
            "Body": answer.body,
            "ContentType": answer.headers.get("content-type"),
            "InvokedProductionVariant": variant.name,
            "CustomAttributes": answer.headers.get("x-amzn-sagemaker-custom-attributes"),
        }
        document = {member: value for member, value in shown.items() if value is not None}
        self._capture.offer(route.capture, name, variant.name, request, document)
        return document

    async def send(self, request: Document, timeout_s: float) -> tuple[VariantRoute, Answer]:
        """Ask an instance, and another one only where nothing of the request was sent.

        Raises:
            AwsError: as `invoke`.
        """
        tried: list[Target] = []
        wanted = request.get("TargetVariant")
        while True:
            variant, target = self._routes.take(request["EndpointName"], wanted, tried)
            try:
                return variant, await self._ask(target, request, timeout_s)
            except NotSentError:
                tried.append(target)
                wanted = variant.name
                target.suspect()
            finally:
                self._routes.release(target)

    async def _ask(self, target: Target, request: Document, timeout_s: float) -> Answer:
        headers = {_HEADERS[member]: str(request[member]) for member in _HEADERS if member in request}
        try:
            async with asyncio.timeout(timeout_s):
                answer = await target.connections.post("/invocations", headers, request["Body"], PAYLOAD_LIMIT_BYTES)
        except TimeoutError:
            raise self._error(target, 0, _TIMED_OUT) from None
        except BrokenError as error:
            target.suspect()
            raise self._error(target, 0, f"The container gave no whole answer: {error}.") from None
        if not 200 <= answer.status < 300:
            raise self._error(target, answer.status, answer.body.decode("utf-8", "replace")[:_ORIGINAL_CHARS])
        return answer

    def _error(self, target: Target, status: int, original: str) -> ModelError:
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
