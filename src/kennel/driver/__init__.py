"""Your machine: the `kennel` command, and the same functions for notebooks."""

from kennel.driver.api import (
    Answer,
    DriverError,
    Endpoint,
    Job,
    Scaling,
    clean,
    deploy,
    jobs,
    session,
    train,
    transform,
)

__all__ = [
    "Answer",
    "DriverError",
    "Endpoint",
    "Job",
    "Scaling",
    "clean",
    "deploy",
    "jobs",
    "session",
    "train",
    "transform",
]
