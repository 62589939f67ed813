"""InvokeEndpoint: a request goes to an instance, its answer or what went wrong comes back.

Source: API reference of the SageMaker runtime, InvokeEndpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from kennel.emulator.containers.client import Answer, BrokenError, NotSentError
from kennel.emulator.containers.model_cache import LoadError, ModelCache
from kennel.emulator.errors import ValidationError, ValidationException
from kennel.emulator.hosting.capture import Capture
from kennel.emulator.hosting.exchange import INVOCATIONS, Asker, Limits
from kennel.emulator.hosting.routes import Route, Routes, Target, VariantRoute
from kennel.emulator.service_model import coverage
from kennel.emulator.state.store import Document

SERVERLESS_BYTES = 4 * 1024 * 1024  # of a payload; developer guide, "Serverless endpoints"
_NOT_LOADED = 404


class Runtime:
    """Answers invocations from the event loop."""

    def __init__(self, routes: Routes, asker: Asker, capture: Capture) -> None:
        self._routes = routes
        self._asker = asker
        self._capture = capture

    async def invoke(self, request: Document) -> Document:
        """InvokeEndpoint.

        Raises:
            AwsError: ValidationError, ModelError, ModelNotReadyException, ServiceUnavailable, ThrottlingException.
        """
        name = request["EndpointName"]
        route = self._routes.get(name)
        _check(route, request)
        variant, answer = await self._send(request)
        shown = {
            "Body": answer.body,
            "ContentType": answer.headers.get("content-type"),
            "InvokedProductionVariant": variant.name,
            "CustomAttributes": answer.headers.get("x-amzn-sagemaker-custom-attributes"),
        }
        document = {member: value for member, value in shown.items() if value is not None}
        self._capture.offer(route.capture, name, variant.name, request, document)
        return document

    async def _send(self, request: Document) -> tuple[VariantRoute, Answer]:
        """Ask an instance, and another one only where nothing of the request was sent."""
        tried: list[Target] = []
        wanted = request.get("TargetVariant")
        while True:
            variant, target = self._routes.take(request["EndpointName"], wanted, tried, request.get("TargetModel"))
            try:
                _require_size(variant, request)
                return variant, await self._ask(target, request)
            except NotSentError:
                tried.append(target)
                wanted = variant.name
                target.suspect()
            except BrokenError as error:
                raise self._asker.broken(target, error) from None
            except LoadError as error:
                self._asker.require_success(target, error.answer)
            finally:
                self._routes.release(target)

    async def _ask(self, target: Target, request: Document) -> Answer:
        async with _path(target.models, request) as path:
            answer = await self._asker.ask(target, path, request, request["Body"], Limits())
        if target.models and answer.status == _NOT_LOADED:  # it has dropped the model by itself
            target.models.forget(request["TargetModel"])
            async with _path(target.models, request) as path:
                answer = await self._asker.ask(target, path, request, request["Body"], Limits())
        self._asker.require_success(target, answer)
        return answer


@contextlib.asynccontextmanager
async def _path(models: ModelCache | None, request: Document) -> AsyncIterator[str]:
    """Where a container takes the request; a model of several is loaded while the block runs."""
    if models is None:
        yield INVOCATIONS
        return
    async with models.use(request["TargetModel"]) as path:
        yield path


def _require_size(variant: VariantRoute, request: Document) -> None:
    size_bytes = len(request["Body"])
    if variant.max_concurrency is not None and size_bytes > SERVERLESS_BYTES:
        raise ValidationError(
            f"Body has {size_bytes} bytes; variant {variant.name} is serverless and takes {SERVERLESS_BYTES}."
        )


def _check(route: Route, request: Document) -> None:
    name = route.endpoint
    try:
        coverage.accept("InvokeEndpoint", request)
    except ValidationException as error:
        raise ValidationError(f"Endpoint {name}: {error.message}.") from None
    if route.asynchronous is not None:
        raise ValidationError(f"Endpoint {name} is asynchronous and takes InvokeEndpointAsync only.")
    if route.is_multi_model and "TargetModel" not in request:
        raise ValidationError(
            f"Endpoint {name} has several models. Send TargetModel: the path of an archive below ModelDataUrl."
        )
    if not route.is_multi_model and "TargetModel" in request:
        raise ValidationError(
            f"Endpoint {name}: it has one model, which is loaded when it starts; leave TargetModel out."
        )
