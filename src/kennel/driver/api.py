"""The driver for notebooks and programs: the functions of the command line, with objects instead of names.

from kennel import driver
job = driver.train("photos", epochs=5)
job.wait().metrics["validation_accuracy"]
with job.deploy() as endpoint:
    endpoint.predict("photo.jpg")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from kennel.contract.errors import KennelError
from kennel.contract.hyperparameters import canonical
from kennel.driver import options
from kennel.driver.account import cleaning
from kennel.driver.account.cleaning import Cleaned
from kennel.driver.endpoints import endpoints as hosting
from kennel.driver.endpoints import predict as predicting
from kennel.driver.endpoints import transform as transforming
from kennel.driver.endpoints.endpoints import Scaling
from kennel.driver.endpoints.predict import Answer, Question
from kennel.driver.errors import DriverError
from kennel.driver.jobs import training, tuning, tuning_report
from kennel.driver.jobs.logs import Epoch, LogLine, read_epoch
from kennel.driver.jobs.trials import Trial
from kennel.driver.jobs.tuning_watching import Follower
from kennel.driver.options import Place, place, session_with, told
from kennel.driver.session.reporting import for_terminal
from kennel.driver.session.session import Session


def session(project: Path | None = None, *, quiet: bool = False, **settings: Any) -> Session:
    """Settings from the nearest kennel.toml, or from the one that is named, and over them those given.

    Args:
        project: a project file.
        quiet: tell no progress.
        settings: names of the project file, such as `on="aws"`; `{"train.spot": True}` for those in a table.

    Raises:
        ConfigError: the file or the settings are wrong.
    """
    return Session.from_file(project, None if quiet else for_terminal(), **settings)


@dataclass(frozen=True)
class Job:
    """A training job, wherever it runs."""

    name: str
    session: Session = field(repr=False)

    @property
    def state(self) -> training.JobState:
        """How it is now."""
        return training.describe(self.session, self.name)

    @property
    def status(self) -> str:
        """InProgress, Completed, Failed, Stopping or Stopped."""
        return self.state.status

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each metric, once it is over."""
        return self.state.metrics

    @property
    def artifact(self) -> str:
        """The URI of model.tar.gz, once it is over."""
        return self.state.artifact

    @property
    def epochs(self) -> list[Epoch]:
        """What each epoch so far has printed."""
        return [epoch for line in self.logs() if (epoch := read_epoch(line.message))]

    def wait(self, *, timeout_s: float | None = None) -> Job:
        """Wait until it is over, telling each epoch.

        Raises:
            DriverError: it failed; the message is its failure reason.
        """
        training.wait(self.session, self.name, timeout_s=timeout_s)
        return self

    def logs(self) -> list[LogLine]:
        """Everything that it has printed so far."""
        return training.reader(self.session, self.name).read()

    def stop(self) -> None:
        """Ask it to stop; it saves what it has within 120 seconds."""
        training.stop(self.session, self.name)

    def deploy(self, **options: Any) -> Endpoint:
        """Serve its artifact; see `deploy`."""
        return deploy(self, **options)


@dataclass(frozen=True)
class TuningJob:
    """A tuning job, wherever it runs."""

    name: str
    session: Session = field(repr=False)

    @property
    def status(self) -> str:
        """InProgress, Completed, Failed, Stopping or Stopped."""
        return tuning.describe(self.session, self.name).status

    @property
    def trials(self) -> list[Trial]:
        """All trials so far: what was tried, the objective, why each ended."""
        return list(tuning_report.gather(self.session, self.name).trials)

    @property
    def best(self) -> Job:
        """The best trial.

        Raises:
            DriverError: none has a result.
        """
        return Job(tuning.best_trial(self.session, self.name), self.session)

    @property
    def best_hyperparameters(self) -> dict[str, str]:
        """Everything that the best trial was told.

        Raises:
            DriverError: none has a result.
        """
        return tuning.best_hyperparameters(self.session, self.name)

    def wait(self, *, timeout_s: float | None = None) -> TuningJob:
        """Wait until it is over, telling each trial.

        Raises:
            DriverError: it failed; the message is its failure reason.
        """
        state = Follower(self.session, self.name).run(timeout_s=timeout_s)
        if state.status == "Failed":
            raise DriverError(f"Tuning job {self.name} failed: {state.failure}")
        return self

    def report(self, page: Path | None = None) -> tuning_report.Found:
        """Trials, importance of each hyperparameter, and a page with plots.

        Args:
            page: where to write the page; below KENNEL_HOME unless given.

        Raises:
            DriverError: the page cannot be written.
        """
        return tuning_report.judge(self.session, tuning_report.gather(self.session, self.name), page)

    def stop(self) -> None:
        """Ask it to stop, with its trials."""
        tuning.stop(self.session, self.name)

    def deploy(self, **options: Any) -> Endpoint:
        """Serve the best trial's artifact; see `deploy`."""
        return deploy(self, **options)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint; as a context manager it is deleted at the end of the block."""

    name: str
    session: Session = field(repr=False)

    @property
    def status(self) -> str:
        """Creating, InService, Failed …"""
        return str(hosting.describe(self.session, self.name)["EndpointStatus"])

    def wait(self) -> Endpoint:
        """Wait until it is in service.

        Raises:
            DriverError: it failed, with the reason and the end of its log.
        """
        hosting.wait(self.session, self.name)
        return self

    def predict(
        self,
        photos: Place | Iterable[Place],
        *,
        top_k: int = 5,
        explain: bool = False,
        asynchronous: bool = False,
        variant: str = "",
        timeout_s: float = 900.0,
    ) -> list[Answer]:
        """Ask about photos; a folder means all images in it.

        Args:
            photos: one file or folder, or several.
            top_k: classes to name.
            explain: where the network looked, too: `heat_map` of each answer is then a PNG.
            asynchronous: the endpoint is asynchronous.
            variant: ask this one.
            timeout_s: for an asynchronous answer.

        Raises:
            DriverError: the endpoint cannot be asked. A photo that is refused is an answer with an error.
        """
        places = [photos] if isinstance(photos, str | Path) else photos
        found = predicting.photos([Path(one).expanduser() for one in places])
        question = Question(self.name, top_k, explain, asynchronous, variant, timeout_s)
        return list(predicting.predict(self.session, question, found))

    def delete(self) -> None:
        """Delete it, its configuration and its models, as far as this machine created them; again does nothing."""
        cleaning.delete_endpoint(self.session, self.name)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.delete()


def train(
    data: Place | None = None,
    *,
    name: str | None = None,
    channels: Mapping[str, Place] | None = None,
    session: Session | None = None,
    **settings: Any,
) -> Job:
    """Start a training job and return at once; `wait()` follows it.

    Args:
        data: a folder of class folders, one that holds train/ and validation/, or a URI.
        name: of the job.
        channels: further channels by name, such as `pretrained`.
        session: settings; the nearest kennel.toml unless given.
        settings: those of kennel.toml (`on`, `instance_type`, `spot` …) and hyperparameters (`epochs`, `lr` …).

    Raises:
        KennelError: what is missing, wrong or refused.
    """
    own = told(session, settings, options.TRAIN, beside=train.__kwdefaults__, trains=True)
    places = {channel: place(one) for channel, one in (channels or {}).items()}
    made = training.plan(own, None if data is None else place(data), channels=places, name=name)
    return Job(training.start(own, made), own)


def tune(
    data: Place | None = None,
    space: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    channels: Mapping[str, Place] | None = None,
    warm_start: Iterable[str] = (),
    transfer: bool = False,
    session: Session | None = None,
    **settings: Any,
) -> TuningJob:
    """Start a tuning job and return at once; `wait()` follows it.

    Args:
        data, channels: as for `train`.
        space: what to search, such as `{"lr": "log:1e-5..1e-1", "batch_size": "16,32,64"}`.
        name: of the tuning job.
        warm_start: tuning jobs whose trials are known already.
        transfer: whether their data or image differ.
        session: settings; the nearest kennel.toml unless given.
        settings: of kennel.toml (`objective`, `max_jobs`, `parallel`, `on` …) and hyperparameters (`epochs` …).

    Raises:
        KennelError: what is missing, wrong or refused.
    """
    own = told(session, settings, options.TUNE, beside=tune.__kwdefaults__, trains=True)
    if space:
        own = session_with(own, {"tune.space": {**canonical(own.project.tune.space), **canonical(space)}})
    places = {channel: place(one) for channel, one in (channels or {}).items()}
    made = tuning.plan(
        own, None if data is None else place(data), channels=places, name=name, parents=tuple(warm_start),
        transfer=transfer,
    )  # fmt: skip
    return TuningJob(tuning.start(own, made), own)


def deploy(
    what: Job | TuningJob | Place,
    *,
    name: str | None = None,
    serverless: bool = False,
    asynchronous: bool = False,
    capture_percentage: int = 0,
    scaling: Scaling | None = None,
    environment: Mapping[str, str] | None = None,
    session: Session | None = None,
    wait: bool = True,
    **settings: Any,
) -> Endpoint:
    """Serve a job's artifact, or one by its path or URI, at an endpoint.

    Args:
        what: the job, its name, a path or a URI.
        name: of the endpoint; one that exists gets a new configuration without dropping a request.
        serverless, asynchronous: instead of an endpoint on machines that run all the time.
        capture_percentage: share of requests whose bodies and answers are kept.
        scaling: bounds of the number of instances, on AWS.
        environment: of the serve container.
        session: settings; the job's own, or those of the nearest kennel.toml.
        wait: until it is in service.
        settings: of kennel.toml (`on`, `instance_type`, `instance_count` …).

    Raises:
        KennelError: what is missing, wrong or refused.
    """
    own = told(session or _session_of(what), settings, options.DEPLOY, beside=deploy.__kwdefaults__)
    made = hosting.plan(
        own, _name_of(what), name=name, serverless=serverless, asynchronous=asynchronous,
        capture_percentage=capture_percentage, scaling=scaling, environment=environment,
    )  # fmt: skip
    endpoint = Endpoint(hosting.start(own, made), own)
    if wait or scaling:
        hosting.wait(own, endpoint.name, config=made.hosting.name)
    if scaling:
        hosting.scale(own, endpoint.name, scaling)
    return endpoint


def transform(
    what: Job | TuningJob | Place,
    data: Place,
    *,
    output: Place | None = None,
    name: str | None = None,
    session: Session | None = None,
    wait: bool = True,
    **settings: Any,
) -> str:
    """Run a model over every image of a folder or prefix; returns the URI of the answers.

    Raises:
        KennelError: what is missing, wrong or refused, or the job failed.
    """
    own = told(session or _session_of(what), settings, options.TRANSFORM, beside=transform.__kwdefaults__)
    target = None if output is None else place(output)
    made = transforming.plan(own, _name_of(what), place(data), output=target, name=name)
    job = transforming.start(own, made)
    if wait:
        transforming.wait(own, job)
    return made.job.output_uri


def job(name: str, session: Session | None = None) -> Job:
    """A training job that was started elsewhere, or before this notebook's kernel."""
    return Job(name, session_with(session, {}))


def endpoint(name: str, session: Session | None = None) -> Endpoint:
    """An endpoint that is there already."""
    return Endpoint(name, session_with(session, {}))


def jobs(session: Session | None = None, *, limit: int = 20) -> Iterator[Job]:
    """The newest training jobs."""
    own = session_with(session, {})
    for summary in training.listing(own, limit=limit):
        yield Job(summary["TrainingJobName"], own)


def clean(session: Session | None = None, *, data: bool = False) -> Cleaned:
    """Delete everything that was created; what is left is in the answer."""
    return cleaning.clean(session_with(session, {}), data=data)


def _session_of(what: Job | TuningJob | Place) -> Session | None:
    return what.session if isinstance(what, Job | TuningJob) else None


def _name_of(what: Job | TuningJob | Place) -> str:
    return what.name if isinstance(what, Job | TuningJob) else place(what)


__all__ = [
    "Answer", "DriverError", "Endpoint", "Job", "KennelError", "Scaling", "TuningJob", "clean", "deploy", "endpoint",
    "job", "jobs", "session", "train", "transform", "tune",
]  # fmt: skip
