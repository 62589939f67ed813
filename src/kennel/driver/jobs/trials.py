"""The trials of a tuning job, as people read them: what was tried, how good it was, and why each ended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from kennel.driver.jobs import training
from kennel.driver.jobs.logs import LogReader, read_epoch
from kennel.driver.requests import training as requests
from kennel.driver.requests.tuning import Objective
from kennel.driver.session.session import Session

_STOPPED_BY_RULE = re.compile(r"Action StopTraining: (\w+)")  # the trainer's line, on AWS and here
_TOGETHER = timedelta(seconds=3)  # a trial that ended so shortly before its tuning job was stopped with it


@dataclass(frozen=True)
class Trial:
    """A training job of a tuning job."""

    number: int  # in the order in which they were created, from 1
    name: str
    status: str  # InProgress, Completed, Stopping, Stopped, Failed
    hyperparameters: Mapping[str, str]  # those that are tuned
    value: float | None  # the objective, as far as it is known
    started: datetime | None
    ended: datetime | None
    failure: str = ""
    epoch: str = ""  # of one that runs, such as 3/10
    why: str = ""  # it ended

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in training.TERMINAL

    @property
    def seconds(self) -> float | None:
        """How long it trained."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None


def best_of(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The trial with the best objective so far; the earlier of equal ones."""
    found: Trial | None = None
    for trial in trials:
        if trial.value is None or (trial.status == "Failed"):
            continue
        if found is None or found.value is None or objective.better(trial.value, found.value):
            found = trial
    return found


@dataclass
class Watch:
    """Asks for the trials again and again, and reads the logs of those that run."""

    session: Session
    name: str
    metric: str
    with_rules: bool  # whether a debugger rule may have ended a trial
    early: bool  # whether the tuning job stops trials that promise nothing
    _logs: dict[str, LogReader] = field(default_factory=dict)
    _epochs: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    _rules: dict[str, str] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)  # whose log was read to its end

    def look(self, ended: datetime | None = None) -> list[Trial]:
        """All trials, the oldest first; a log is read again only while its trial runs.

        Args:
            ended: when the tuning job ended, if its end may have stopped trials.

        Raises:
            DriverError: they may not be listed.
        """
        found = list_trials(self.session, self.name)
        for trial in found:
            if (not trial.is_over or self.with_rules) and trial.name not in self._over:
                self._read_log(trial)
        return [self._complete(trial, ended) for trial in found]

    def _read_log(self, trial: Trial) -> None:
        reader = self._logs.setdefault(trial.name, training.reader(self.session, trial.name))
        for line in reader.read():
            epoch, stopped = read_epoch(line.message), _STOPPED_BY_RULE.search(line.message)
            if epoch:
                self._epochs[trial.name] = f"{epoch.number}/{epoch.total}", epoch.metrics.get(self.metric)
            if stopped:
                self._rules[trial.name] = stopped[1]
        if trial.is_over:
            self._over.add(trial.name)
            self._logs.pop(trial.name, None)

    def _complete(self, trial: Trial, ended: datetime | None) -> Trial:
        epoch, value = self._epochs.get(trial.name, ("", None))
        if not trial.is_over:
            return replace(trial, epoch=epoch, value=value if trial.value is None else trial.value)
        return replace(trial, why=self._why(trial, ended))

    def _why(self, trial: Trial, ended: datetime | None) -> str:
        failed = f"failed: {trial.failure}" if trial.failure else "failed"
        if trial.name in self._rules:  # the trainer may see for itself that all is lost before it is told to stop
            return f"pruned by {self._rules[trial.name]}{f' ({failed})' if trial.status == 'Failed' else ''}"
        if trial.status == "Failed":
            return failed
        if trial.status == "Completed":
            return "completed"
        if trial.ended and ended and ended - trial.ended < _TOGETHER:
            return "stopped with the tuning job"
        return "stopped early" if self.early else "stopped"


def list_trials(session: Session, name: str) -> list[Trial]:
    """The trials of a tuning job as the API lists them, the oldest first.

    Raises:
        DriverError: they may not be listed.
    """
    return [_trial(number, summary) for number, summary in enumerate(_summaries(session, name), 1)]


def trial_names(session: Session, name: str) -> list[str]:
    """The training jobs of a tuning job."""
    return [trial.name for trial in list_trials(session, name)]


def _summaries(session: Session, name: str) -> Iterator[Mapping[str, Any]]:
    request: dict[str, Any] = {
        **requests.by_name("tuning-job", name), "SortBy": "CreationTime", "SortOrder": "Ascending", "MaxResults": 100,
    }  # fmt: skip
    while True:
        answer = session.send("ListTrainingJobsForHyperParameterTuningJob", request)
        yield from answer["TrainingJobSummaries"]
        if "NextToken" not in answer:
            return
        request["NextToken"] = answer["NextToken"]


def _trial(number: int, summary: Mapping[str, Any]) -> Trial:
    final = summary.get("FinalHyperParameterTuningJobObjectiveMetric") or {}
    return Trial(
        number=number,
        name=summary["TrainingJobName"],
        status=summary["TrainingJobStatus"],
        hyperparameters={name: _plain(text) for name, text in summary["TunedHyperParameters"].items()},
        value=final.get("Value"),
        started=summary.get("TrainingStartTime") or summary.get("CreationTime"),
        ended=summary.get("TrainingEndTime"),
        failure=" ".join(summary.get("FailureReason", "").split()),
    )


def _plain(text: str) -> str:
    """A categorical value may come back in JSON's quotes, as the SDK sends it."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def short(text: str) -> str:
    """A tuned value as a table shows it: numbers with four digits that count."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if len(text) <= 6 else f"{number:.4g}"
