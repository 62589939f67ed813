"""Who answers an invocation: the variant by weight, then one of its instances in turn.

A route is replaced as a whole. Choosing an instance and counting the request are one step under the lock that replaces
it, too, so that an instance that was taken out of the route and counts no request has none and gets none any more.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from kennel.emulator.containers.client import Connections
from kennel.emulator.containers.model_cache import ModelCache
from kennel.emulator.documents.endpoint import endpoint_not_found
from kennel.emulator.errors import AwsError, ValidationError
from kennel.emulator.state.store import Document

LEAST_BUSY = "LEAST_OUTSTANDING_REQUESTS"


@dataclass(eq=False)
class Target:
    """One running container, as the route sees it."""

    connections: Connections
    log_group: str
    log_stream: str
    suspect: Callable[[], None]  # called when it could not be reached
    models: ModelCache | None = None  # where its models are loaded by name
    in_flight: int = 0


@dataclass(frozen=True)
class VariantRoute:
    """A variant and its healthy instances."""

    name: str
    weight: float
    targets: tuple[Target, ...]
    strategy: str = ""
    max_concurrency: int | None = None  # of a serverless variant
    per_instance: int | None = None  # requests at a time, of an asynchronous endpoint
    is_multi_model: bool = False
    turn: Iterator[int] = field(default_factory=itertools.count)

    def pick(self, without: Collection[Target], model: str | None = None) -> Target | None:
        """An idle instance that has the model loaded, or else the next one, or the least busy one."""
        left = [target for target in self.targets if target not in without and not self._is_full(target)]
        if not left:
            return None
        for target in left:
            if model and target.models and not target.in_flight and target.models.has(model):
                return target
        if self.strategy == LEAST_BUSY:
            return min(left, key=lambda target: target.in_flight)
        return left[next(self.turn) % len(left)]

    def _is_full(self, target: Target) -> bool:
        return self.per_instance is not None and target.in_flight >= self.per_instance


@dataclass(frozen=True)
class Route:
    """Everything that an invocation of one endpoint needs to know."""

    endpoint: str
    variants: tuple[VariantRoute, ...]
    capture: Document | None = None
    asynchronous: Document | None = None

    @property
    def is_multi_model(self) -> bool:
        """Whether requests name a model."""
        return any(variant.is_multi_model for variant in self.variants)

    def variant(self, wanted: str | None, name: str) -> VariantRoute:
        """The variant that is asked for, or one by weight.

        Raises:
            AwsError: ValidationError, there is none of that name; ServiceUnavailable, none has an instance.
        """
        if wanted is not None:
            for variant in self.variants:
                if variant.name == wanted:
                    return variant
            known = ", ".join(variant.name for variant in self.variants)
            raise ValidationError(f"Variant {wanted} not found for endpoint {name}. There are {known}.")
        ready = [variant for variant in self.variants if variant.weight > 0 and variant.targets]
        if not ready:
            raise unavailable(name)
        return random.choices(ready, [variant.weight for variant in ready])[0]  # noqa: S311 - a share, no secret


def unavailable(name: str) -> AwsError:
    """No instance can be asked now."""
    return AwsError(
        "ServiceUnavailable",
        f"No instance of endpoint {name} is healthy now. They are started again; the logs of "
        f"/aws/sagemaker/Endpoints/{name} say why they ended.",
        503,
    )


class Routes:
    """The routes of all endpoints that answer. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._routes: dict[str, Route] = {}

    def get(self, endpoint: str) -> Route:
        """The route of an endpoint.

        Raises:
            ValidationError: it is not there, or not in service.
        """
        route = self._routes.get(endpoint)
        if route is None:
            raise endpoint_not_found(endpoint)
        return route

    def put(self, route: Route) -> None:
        """Replace the route of an endpoint."""
        with self._lock:
            self._routes[route.endpoint] = route

    def drop(self, endpoint: str) -> None:
        """Nobody is let in any more."""
        with self._lock:
            self._routes.pop(endpoint, None)

    def take(
        self, endpoint: str, wanted: str | None = None, without: Collection[Target] = (), model: str | None = None
    ) -> tuple[VariantRoute, Target]:
        """Choose an instance that was not tried yet, and count a request on it; `release` takes the count back.

        Raises:
            AwsError: ValidationError, ServiceUnavailable, or ThrottlingException of a serverless variant.
        """
        with self._lock:
            variant = self.get(endpoint).variant(wanted, endpoint)
            busy = sum(target.in_flight for target in variant.targets)
            if variant.max_concurrency is not None and busy >= variant.max_concurrency:
                raise AwsError(
                    "ThrottlingException",
                    f"Rate exceeded: variant {variant.name} answers {variant.max_concurrency} requests at once "
                    "(ServerlessConfig.MaxConcurrency). Send fewer, or try again.",
                    429,
                )
            target = variant.pick(without, model)
            if target is None:
                raise unavailable(endpoint)
            target.in_flight += 1
            return variant, target

    def release(self, target: Target) -> None:
        """A request has been answered."""
        with self._lock:
            target.in_flight -= 1

    def is_idle(self, target: Target) -> bool:
        """Whether nobody waits for an answer of it."""
        with self._lock:
            return target.in_flight == 0
