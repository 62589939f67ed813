"""Tuning jobs: planned, sent, followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kennel.contract.hyperparameters import canonical
from kennel.driver.errors import DriverError, WaitTimeoutError
from kennel.driver.jobs import training
from kennel.driver.jobs.trials import Trial, Watch
from kennel.driver.requests import training as requests
from kennel.driver.requests.space import read
from kennel.driver.requests.training import Request, unique_name
from kennel.driver.requests.tuning import Completion, Objective, Tuning, check, create_tuning_job, objective_by_name
from kennel.driver.session.session import Session
from kennel.driver.transfers.datasets import Source

KIND = "tuning-job"
TERMINAL = ("Completed", "Failed", "Stopped", "DeleteFailed")
STOP_ON = "stop_on"  # the hyperparameter with the debugger rules that end a training
_DESCRIBE = "DescribeHyperParameterTuningJob"
_POLL_LOCAL_S, _POLL_AWS_S = 1.0, 15.0


@dataclass(frozen=True)
class Plan:
    """A tuning job before it is sent: the request's values, and the folders that must be in S3 first."""

    tuning: Tuning
    sources: tuple[Source, ...]

    @property
    def request(self) -> Request:
        """Exactly what CreateHyperParameterTuningJob is sent."""
        return create_tuning_job(self.tuning)

    @property
    def at_most_s(self) -> float:
        """The longest time with all of `parallel` machines at work."""
        alone_s = self.tuning.jobs * self.tuning.training.max_runtime_s / self.tuning.parallel
        return min(alone_s, self.tuning.max_runtime_s or alone_s)


@dataclass(frozen=True)
class TuningState:
    """What DescribeHyperParameterTuningJob tells, as far as people ask."""

    name: str
    status: str
    strategy: str
    objective: Objective
    early_stopping: bool
    created: datetime
    ended: datetime | None
    max_jobs: int | None
    counters: Mapping[str, int]
    best: str  # the name of the best trial
    failure: str
    request: Mapping[str, Any] = field(repr=False, default_factory=dict)  # the whole answer

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in TERMINAL

    @property
    def cut_off(self) -> datetime | None:
        """When it ended, if that may have stopped trials: not where the end of its last trial was its own."""
        config = self.request.get("HyperParameterTuningJobConfig") or {}
        limited = "MaxRuntimeInSeconds" in (config.get("ResourceLimits") or {})
        if self.status == "Completed" and not limited and not config.get("TuningJobCompletionCriteria"):
            return None
        return self.ended

    @property
    def definition(self) -> Mapping[str, Any]:
        """What all trials have in common: TrainingJobDefinition, or the first of several."""
        found = self.request.get("TrainingJobDefinition") or (self.request.get("TrainingJobDefinitions") or [{}])[0]
        return dict(found)

    @property
    def static(self) -> dict[str, str]:
        """The hyperparameters that all trials have in common."""
        given = self.definition.get("StaticHyperParameters") or {}
        return {name: text for name, text in given.items() if not name.startswith("_")}

    def watch(self, session: Session) -> Watch:
        """Who looks at its trials."""
        return Watch(
            session, self.name, self.objective.metric, with_rules=self.static.get(STOP_ON, "none") != "none",
            early=self.early_stopping or self.strategy == "Hyperband",
        )  # fmt: skip


def plan(
    session: Session,
    data: str | None,
    *,
    channels: Mapping[str, str] | None = None,
    name: str | None = None,
    parents: Sequence[str] = (),
    transfer: bool = False,
) -> Plan:
    """Work out a tuning job from the settings; nothing is sent, uploaded or started.

    Args:
        session: settings, of which `tune` holds the search.
        data, channels: as for a training job.
        name: of the tuning job, 32 characters at most.
        parents: tuning jobs whose trials are known already.
        transfer: whether the parents' data or image differ.

    Raises:
        KennelError: what is missing or wrong.
    """
    settings = session.project.tune
    space, objective = read(settings.space), objective_by_name(settings.objective)
    tuned = {one.name for one in space}
    common = canonical(session.project.hyperparameters)
    for twice in sorted(tuned & common.keys()):
        session.reporter.say(f"{twice} is tuned; its fixed value {common.pop(twice)} is not used")
    if settings.prune_on:
        common[STOP_ON] = ",".join(settings.prune_on)
    own_name = name or unique_name("tune")
    own = replace(session, project=session.project.with_flags({"hyperparameters": common}))
    trial = training.plan(own, data, channels=channels, name=own_name)
    tuning = Tuning(
        name=own_name,
        training=trial.training,
        space=space,
        objective=objective,
        strategy=settings.strategy,
        max_jobs=settings.max_jobs,
        parallel=settings.parallel,
        max_runtime_s=60 * settings.max_runtime_minutes,
        early_stopping=settings.early_stopping,
        seed=settings.seed if settings.seed >= 0 else None,
        epochs=(settings.min_epochs, int(common.get("epochs", 10))),
        completion=Completion(settings.target, settings.not_improving, settings.converged),
        parents=tuple(parents),
        transfer=transfer,
        tags=session.project.tags,
    )
    tuning = replace(tuning, parallel=min(tuning.parallel, tuning.jobs))  # SageMaker refuses more at once than in all
    check(tuning)
    made = Plan(tuning, trial.sources)
    session.check("CreateHyperParameterTuningJob", made.request)
    return made


def start(session: Session, made: Plan) -> str:
    """Check, upload and send a planned tuning job; returns its name.

    Raises:
        DriverError: a check failed, or a refusal.
    """
    trial = made.tuning.training
    training.provide(session, training.Plan(trial, made.sources))
    session.create(
        "CreateHyperParameterTuningJob", KIND, made.tuning.name, made.request,
        instance_type=trial.machines.instance_type,
        instance_count=trial.machines.instance_count,
        output_uri=trial.output_uri,
    )  # fmt: skip
    return made.tuning.name


def describe(session: Session, name: str) -> TuningState:
    """How a tuning job is.

    Raises:
        DriverError: there is none of this name.
    """
    return _state(session.known(_DESCRIBE, requests.by_name(KIND, name), "tuning job", "kennel tune jobs"))


def find(session: Session, name: str) -> TuningState | None:
    """How a tuning job is; None when there is none of this name.

    Raises:
        DriverError: it may not be described.
    """
    answer = session.find(_DESCRIBE, requests.by_name(KIND, name))
    return None if answer is None else _state(answer)


def _state(answer: Mapping[str, Any]) -> TuningState:
    config = answer["HyperParameterTuningJobConfig"]
    objective = config.get("HyperParameterTuningJobObjective") or {}
    best = answer.get("BestTrainingJob") or {}
    return TuningState(
        name=answer["HyperParameterTuningJobName"],
        status=answer["HyperParameterTuningJobStatus"],
        strategy=config["Strategy"],
        objective=Objective(objective.get("MetricName", ""), objective.get("Type", "Maximize") == "Maximize"),
        early_stopping=config.get("TrainingJobEarlyStoppingType") == "Auto",
        created=answer["CreationTime"],
        ended=answer.get("HyperParameterTuningEndTime"),
        max_jobs=config.get("ResourceLimits", {}).get("MaxNumberOfTrainingJobs"),
        counters=answer.get("TrainingJobStatusCounters") or {},
        best=best.get("TrainingJobName", ""),
        failure=answer.get("FailureReason", ""),
        request=answer,
    )


def follow(
    session: Session,
    name: str,
    on_round: Callable[[TuningState, list[Trial]], None],
    *,
    timeout_s: float | None = None,
) -> TuningState:
    """Hand over how a tuning job and its trials are, again and again until it is over.

    Raises:
        DriverError: it may not be described.
        WaitTimeoutError: it goes on for longer than `timeout_s`.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    watch: Watch | None = None
    while True:
        state = describe(session, name)
        watch = watch or state.watch(session)
        on_round(state, watch.look(state.cut_off))
        if state.is_over:
            return state
        if deadline is not None and time.monotonic() > deadline:
            raise WaitTimeoutError(f"Tuning job {name} is still {state.status}.", f"kennel tune show {name}")
        time.sleep(_POLL_LOCAL_S if session.is_local else _POLL_AWS_S)


def best_hyperparameters(session: Session, name: str) -> dict[str, str]:
    """Everything that the best trial was told, the tuned ones first; rules that end a trial are left out.

    Raises:
        DriverError: there is no such tuning job, or none of its trials has a result.
    """
    state = describe(session, name)
    best = state.request.get("BestTrainingJob")
    if not best:
        raise _without_result(state)
    tuned = {key: text.strip('"') for key, text in canonical(best["TunedHyperParameters"]).items()}
    fixed = {key: text for key, text in canonical(state.static).items() if key not in tuned and key != STOP_ON}
    return {**tuned, **fixed}


def channels_of(session: Session, name: str) -> dict[str, str]:
    """Where a tuning job's data lies: a URI for each of its channels.

    Raises:
        DriverError: there is no such tuning job.
    """
    found = describe(session, name).definition.get("InputDataConfig") or []
    return {one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"] for one in found}


def best_trial(session: Session, name: str) -> str:
    """The name of a tuning job's best training job.

    Raises:
        DriverError: there is no such tuning job, or none of its trials has a result.
    """
    state = describe(session, name)
    if not state.best:
        raise _without_result(state)
    return state.best


def _without_result(state: TuningState) -> DriverError:
    return DriverError(
        f"No trial of tuning job {state.name} has a result ({state.status}).", f"kennel tune show {state.name}"
    )


def listing(session: Session, *, limit: int = 20, contains: str = "", status: str = "") -> list[dict[str, Any]]:
    """The newest tuning jobs, of any status or of one: name, status, created, counters.

    Raises:
        DriverError: they may not be listed.
    """
    return session.newest(
        "ListHyperParameterTuningJobs",
        "HyperParameterTuningJobSummaries",
        limit=limit,
        contains=contains,
        status=status,
    )


def stop(session: Session, name: str) -> None:
    """Ask a tuning job to stop; its trials save what they have within 120 seconds.

    Raises:
        DriverError: there is none, or it is over.
    """
    session.send("StopHyperParameterTuningJob", requests.by_name(KIND, name))
