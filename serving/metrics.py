"""What /metrics tells Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from serving.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "kennel_requests", "Requests that were answered", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "kennel_request_seconds",
            "From the request's headers to its answer",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._gauge("kennel_ready", "1 when /ping says 200").set_function(lambda: float(_healthy(service)))
        self._gauge("kennel_workers", "Requests computed at the same time").set(service.settings.workers)
        self._gauge("kennel_places", "Requests that are taken in at once").set(service.admission.places)
        self._gauge("kennel_places_taken", "Requests inside").set_function(lambda: service.admission.taken)
        self._gauge("kennel_models", "Models that were loaded by name").set_function(lambda: len(service.models))
        self._gauge("kennel_models_in_memory", "Those of them in memory").set_function(lambda: service.models.in_memory)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self._registry)


def _healthy(service: Service) -> bool:
    return service.ready and not service.stopping and service.backend.problem() is None
