"""The parts of the server that an operation works with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kennel.emulator.documents.names import resource_arn
from kennel.emulator.hosting.endpoints import Endpoints
from kennel.emulator.state.home import Home
from kennel.emulator.state.store import Store
from kennel.emulator.training.jobs import TrainingJobs
from kennel.emulator.transform.jobs import TransformJobs
from kennel.emulator.tuning.jobs import TuningJobs


@dataclass(frozen=True)
class Context:
    """The state of one server, and what runs jobs and endpoints for it."""

    store: Store
    home: Home
    region: str
    jobs: TrainingJobs
    tunings: TuningJobs
    transforms: TransformJobs
    hosting: Endpoints
    clock: Callable[[], float] = time.time  # seconds since 1970

    def arn(self, kind: str, name: str) -> str:
        """The Amazon Resource Name of a resource of this server."""
        return resource_arn(self.region, kind, name)
