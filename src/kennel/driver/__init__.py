"""Your machine: the `kennel` command, and the same functions for notebooks."""

from kennel.driver.api import (
    Answer,
    DriverError,
    Endpoint,
    Job,
    KennelError,
    Scaling,
    TuningJob,
    clean,
    deploy,
    endpoint,
    job,
    jobs,
    session,
    train,
    transform,
    tune,
)

__all__ = [
    "Answer",
    "DriverError",
    "Endpoint",
    "Job",
    "KennelError",
    "Scaling",
    "TuningJob",
    "clean",
    "deploy",
    "endpoint",
    "job",
    "jobs",
    "session",
    "train",
    "transform",
    "tune",
]
