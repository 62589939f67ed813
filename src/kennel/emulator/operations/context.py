"""What an operation works with, and what others do for it: run jobs, transform batches, answer at endpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kennel.emulator.errors import ValidationError
from kennel.emulator.home import Home
from kennel.emulator.store import Document, Store

ACCOUNT = "000000000000"
Request = dict[str, Any]


class Jobs(Protocol):
    """Runs training jobs, each in a thread of its own; operations/training_jobs.py says what a document holds."""

    def refusals(self, request: Request) -> list[str]:
        """What cannot be done about a CreateTrainingJob request here: a sentence each, none when all can."""

    def start(self, name: str) -> None:
        """Begin with a job that is stored as InProgress. Returns at once; what goes wrong makes the job Failed."""

    def stop(self, name: str) -> None:
        """End a job that is stored as Stopping. Returns at once; may be repeated."""

    def delete(self, name: str) -> None:
        """Remove the files, logs and metrics of a job that has ended. May be repeated."""

    def end_pool(self, pool: str) -> None:
        """End what waits for jobs that share a warm pool (warm_pool.py). May be repeated."""

    def recover(self) -> None:
        """Find again what ran when the last server ended. Called once, before anybody is answered."""

    def close(self) -> None:
        """The server ends."""


class Transforms(Protocol):
    """Runs batch transform jobs, each in a thread; operations/transform_jobs.py says what a document holds."""

    def refusals(self, request: Request) -> list[str]:
        """What cannot be done about a CreateTransformJob request here: a sentence each, none when all can."""

    def start(self, name: str) -> None:
        """Begin with a job that is stored as InProgress. Returns at once; what goes wrong makes the job Failed."""

    def stop(self, name: str) -> None:
        """End a job that is stored as Stopping. Returns at once; may be repeated."""

    def recover(self) -> None:
        """Go on with what the last server left. Called once, before anybody is answered."""

    def close(self) -> None:
        """The server ends."""


class Tunings(Protocol):
    """Runs hyperparameter tuning jobs; tuning_status.py says what a document holds."""

    def start(self, name: str) -> None:
        """Begin with a tuning job that is stored as InProgress. Returns at once."""

    def stop(self, name: str) -> None:
        """End a tuning job that is stored as Stopping, and its trials. Returns at once; may be repeated."""

    def delete(self, name: str) -> None:
        """Let go of a tuning job that has ended, so that its name can be used again. May be repeated."""

    def recover(self) -> None:
        """Go on with what the last server left. Called once, before anybody is answered, after the jobs' recover."""

    def close(self) -> None:
        """The server ends."""


class Hosting(Protocol):
    """Runs endpoints and answers invocations.

    Members of requests and answers are those of botocore's model of sagemaker-runtime.
    """

    def start(self, name: str) -> None:
        """Begin with an endpoint that is stored as Creating. Returns at once."""

    def notes(self, request: Request) -> list[str]:
        """What of a CreateModel or CreateEndpointConfig request has no effect with this runner: a sentence each."""

    def wake(self, name: str) -> None:
        """An endpoint's document wants something else than before. Returns at once; may be repeated."""

    def recover(self) -> None:
        """Find again what ran when the last server ended. Called once, before anybody is answered."""

    def close(self) -> None:
        """The server ends."""

    async def invoke(self, request: Request) -> Document:
        """InvokeEndpoint: `EndpointName`, `Body` (bytes) and what the client sent of the other members.

        Raises:
            AwsError: ValidationError, ModelError, ModelNotReadyException, ServiceUnavailable, InternalFailure.
        """

    async def invoke_async(self, request: Request) -> Document:
        """InvokeEndpointAsync: the answer has InferenceId, OutputLocation and FailureLocation.

        Raises:
            AwsError: ValidationError, ServiceUnavailable, InternalFailure.
        """


def endpoint_not_found(name: str) -> ValidationError:
    """The runtime's error for an endpoint that is not there or not in service, in AWS's words."""
    return ValidationError(
        f"Endpoint {name} of account {ACCOUNT} not found. List them with: aws sagemaker list-endpoints"
    )


@dataclass(frozen=True)
class Context:
    """One server's things."""

    store: Store
    home: Home
    region: str
    jobs: Jobs
    tunings: Tunings
    transforms: Transforms
    hosting: Hosting
    clock: Callable[[], float] = time.time  # seconds since 1970

    def arn(self, kind: str, name: str) -> str:
        """The Amazon Resource Name of a resource of this server."""
        return resource_arn(self.region, kind, name)


def resource_arn(region: str, kind: str, name: str) -> str:
    """The Amazon Resource Name of a resource of SageMaker."""
    return f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind}/{name}"
