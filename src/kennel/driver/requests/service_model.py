"""botocore's service models, read once: SageMaker's takes 0.2 s, and both the checks and the client need it."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def loader() -> Any:
    """What reads and keeps the models; every session of this process gets it."""
    from botocore.loaders import create_loader

    return create_loader()


@functools.cache
def service_model(service: str) -> Any:
    """A service's shapes and operations."""
    from botocore.model import ServiceModel

    return ServiceModel(loader().load_service_model(service, "service-2"), service)
