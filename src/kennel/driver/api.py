"""The driver for notebooks and programs: the functions of the command line, with objects instead of names.

from kennel import driver
job = driver.train("photos", epochs=5)
job.wait().metrics["validation_accuracy"]
with job.deploy() as endpoint:
    endpoint.predict("photo.jpg")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from kennel.driver import cleaning, hosting, predicting, training, transforming, tuning, tuning_report
from kennel.driver.cleaning import Cleaned
from kennel.driver.errors import DriverError
from kennel.driver.hosting import Scaling
from kennel.driver.logs import Epoch, LogLine, read_epoch
from kennel.driver.predicting import Answer, Question
from kennel.driver.project import TrainSettings, TuneSettings
from kennel.driver.reporting import for_terminal
from kennel.driver.session import Session
from kennel.driver.trials import Trial
from kennel.driver.tuning_watching import Follower
from kennel.driver.uris import is_uri

Place = str | Path
_TRAIN_SETTINGS = {field.name: f"train.{field.name}" for field in fields(TrainSettings)}
_TUNE_SETTINGS = {field.name: f"tune.{field.name}" for field in fields(TuneSettings) if field.name != "space"} | {
    "max_runtime_minutes": "train.max_runtime_minutes", "max_total_minutes": "tune.max_runtime_minutes",
}  # fmt: skip
_SETTINGS = {name: name for name in ("on", "region", "role", "bucket", "network_isolation")}


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
    session: Session

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
    session: Session

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
    session: Session

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

    def predict(self, photos: Place | Iterable[Place], **options: Any) -> list[Answer]:
        """Ask about photos; a folder means all images in it.

        Args:
            photos: one file or folder, or several.
            options: fields of `predicting.Question`, such as `top_k=3`.

        Raises:
            DriverError: the endpoint cannot be asked. A photo that is refused is an answer with an error.
        """
        places = [photos] if isinstance(photos, str | Path) else photos
        found = predicting.photos([Path(place).expanduser() for place in places])
        return list(predicting.predict(self.session, Question(self.name, **options), found))

    def delete(self) -> None:
        """Delete it, its configuration and its models, as far as this machine created them."""
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
    **options: Any,
) -> Job:
    """Start a training job and return at once; `wait()` follows it.

    Args:
        data: a folder of class folders, one that holds train/ and validation/, or a URI.
        name: of the job.
        channels: further channels by name, such as `pretrained`.
        session: settings; the nearest kennel.toml unless given.
        options: settings (`on`, `instance_type`, `spot` …) and hyperparameters (`epochs`, `lr` …).

    Raises:
        KennelError: what is missing, wrong or refused.
    """
    own = _told(session, options, {**_SETTINGS, **_TRAIN_SETTINGS})
    places = {channel: _place(place) for channel, place in (channels or {}).items()}
    made = training.plan(own, None if data is None else _place(data), channels=places, name=name)
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
    **options: Any,
) -> TuningJob:
    """Start a tuning job and return at once; `wait()` follows it.

    Args:
        data, channels: as for `train`.
        space: what to search, such as `{"lr": "log:1e-5..1e-1", "batch_size": "16,32,64"}`.
        name: of the tuning job.
        warm_start: tuning jobs whose trials are known already.
        transfer: whether their data or image differ.
        session: settings; the nearest kennel.toml unless given.
        options: settings (`objective`, `strategy`, `max_jobs`, `parallel`, `on` …) and hyperparameters (`epochs` …).

    Raises:
        KennelError: what is missing, wrong or refused.
    """
    own = _told(session, options, {**_SETTINGS, **_TRAIN_SETTINGS, **_TUNE_SETTINGS})
    if space:
        own = _session(own, {"tune.space": {**own.project.tune.space, **space}})
    places = {channel: _place(place) for channel, place in (channels or {}).items()}
    made = tuning.plan(
        own, None if data is None else _place(data), channels=places, name=name, parents=tuple(warm_start),
        transfer=transfer,
    )  # fmt: skip
    return TuningJob(tuning.start(own, made), own)


def deploy(
    what: Job | TuningJob | Place,
    *,
    session: Session | None = None,
    wait: bool = True,
    scaling: Scaling | None = None,
    **options: Any,
) -> Endpoint:
    """Serve a job's artifact, or one by its path or URI, at an endpoint.

    Args:
        what: the job, path or URI.
        session: settings; the job's own, or those of the nearest kennel.toml.
        wait: until it is in service.
        scaling: bounds of the number of instances, on AWS.
        options: `name`, `serverless`, `asynchronous`, `capture_percentage`, `environment`.

    Raises:
        KennelError: what is missing, wrong or refused.
    """
    own = session or (what.session if isinstance(what, Job | TuningJob) else _session(None, {}))
    made = hosting.plan(
        own, what.name if isinstance(what, Job | TuningJob) else _place(what), scaling=scaling, **options
    )
    endpoint = Endpoint(hosting.start(own, made), own)
    if wait or scaling:
        hosting.wait(own, endpoint.name, config=made.hosting.name)
    if scaling:
        hosting.scale(own, endpoint.name, scaling)
    return endpoint


def transform(
    what: Job | Place, data: Place, *, output: Place | None = None, session: Session | None = None, wait: bool = True
) -> str:
    """Run a model over every image of a folder or prefix; returns the URI of the answers.

    Raises:
        KennelError: what is missing, wrong or refused, or the job failed.
    """
    own = session or (what.session if isinstance(what, Job) else _session(None, {}))
    place = None if output is None else _place(output)
    made = transforming.plan(own, what.name if isinstance(what, Job) else _place(what), _place(data), output=place)
    name = transforming.start(own, made)
    if wait:
        transforming.wait(own, name)
    return made.job.output_uri


def jobs(session: Session | None = None, *, limit: int = 20) -> Iterator[Job]:
    """The newest training jobs."""
    own = _session(session, {})
    for summary in training.listing(own, limit=limit):
        yield Job(summary["TrainingJobName"], own)


def clean(session: Session | None = None, *, data: bool = False) -> Cleaned:
    """Delete everything that was created; what is left is in the answer."""
    return cleaning.clean(_session(session, {}), data=data)


def _session(given: Session | None, settings: Mapping[str, Any]) -> Session:
    own = given or Session.from_file(None, for_terminal())
    if not settings:
        return own
    return Session(own.project.with_flags(settings), own.home, own.reporter)


def _told(given: Session | None, options: dict[str, Any], names: Mapping[str, str]) -> Session:
    """A session with options that are settings by these names, and with all others as hyperparameters."""
    own = _session(given, {names[key]: value for key, value in options.items() if key in names})
    others = {key: value for key, value in options.items() if key not in names}
    return _session(own, {"hyperparameters": {**own.project.hyperparameters, **others}}) if others else own


def _place(place: Place) -> str:
    return place if isinstance(place, str) and is_uri(place) else str(Path(place).expanduser())


__all__ = [
    "Answer", "DriverError", "Endpoint", "Job", "Scaling", "TuningJob", "clean", "deploy", "jobs", "session", "train",
    "transform", "tune",
]  # fmt: skip
