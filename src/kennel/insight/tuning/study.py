"""A tuning job as values, read from the JSON that `kennel tune show --json` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.insight.errors import InsightError

_AUTO_LOG_FACTOR = 100  # from which on the local SageMaker, too, takes Auto for logarithmic


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that was tuned."""

    name: str
    kind: str  # continuous, integer or categorical
    low: float = 0.0
    high: float = 0.0
    scaling: str = "Auto"
    values: tuple[str, ...] = ()

    @property
    def is_log(self) -> bool:
        """Whether equal factors are equal distances."""
        wide = self.low > 0 and self.high >= _AUTO_LOG_FACTOR * self.low
        return self.scaling == "Logarithmic" or (self.scaling == "Auto" and wide)

    def place(self, text: str) -> float:
        """Where a value lies between the least (0) and the greatest (1)."""
        if self.kind == "categorical":
            return self.values.index(text) / max(1, len(self.values) - 1) if text in self.values else 0.0
        return min(1.0, max(0.0, self._share(float(text))))

    def _share(self, value: float) -> float:
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of an axis."""
        if self.kind == "categorical":
            return [(self.place(value), value) for value in self.values]
        numbers = _powers(self.low, self.high) if self.is_log else _steps(self.low, self.high, self.kind == "integer")
        return [(self._share(number), f"{number:.4g}") for number in numbers]


def _powers(low: float, high: float) -> list[float]:
    found = [10.0**power for power in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    return found if len(found) > 1 else [low, high]


def _steps(low: float, high: float, whole: bool) -> list[float]:
    numbers = [low + (high - low) * quarter / 4 for quarter in range(5)]
    return sorted({float(round(number)) for number in numbers}) if whole else numbers


@dataclass(frozen=True)
class Trial:
    """A training job of the tuning job."""

    number: int
    name: str
    why: str  # it ended, or how it is
    hyperparameters: Mapping[str, str]
    value: float | None  # the objective
    begun_s: float | None  # since the tuning job was created
    seconds: float | None

    @property
    def end(self) -> str:
        """`why` without the reason of a failure."""
        return self.why.partition(":")[0].partition(" (")[0]


@dataclass(frozen=True)
class Study:
    """A tuning job."""

    name: str
    status: str
    strategy: str
    metric: str
    maximize: bool
    created: str
    seconds: float | None
    parameters: tuple[Parameter, ...]
    static: Mapping[str, str]
    trials: tuple[Trial, ...]

    @property
    def measured(self) -> list[Trial]:
        """Trials with a result, in the order in which they were begun."""
        return [trial for trial in self.trials if trial.value is not None and trial.end != "failed"]

    @property
    def ranked(self) -> list[Trial]:
        """Trials with a result, the best first; the earlier of equal ones."""
        sign = -1 if self.maximize else 1
        return sorted(self.measured, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def read(file: Path) -> Study:
    """Read a tuning job.

    Raises:
        InsightError: the file is not what `kennel tune show --json` prints.
    """
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return _study(values)
    except OSError as error:
        raise InsightError(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InsightError(
            f"{file} does not describe a tuning job ({type(error).__name__}: {error}). Make it with "
            "`kennel tune show JOB --json`."
        ) from error


def _study(values: Mapping[str, Any]) -> Study:
    parameters = [Parameter(**{**one, "values": tuple(one.get("values", ()))}) for one in values["parameters"]]
    members = ("number", "name", "why", "hyperparameters", "value", "begun_s", "seconds")
    trials = [Trial(**{member: one[member] for member in members}) for one in values["trials"]]
    return Study(
        values["tuning_job"], values["status"], values["strategy"], values["objective"]["metric"],
        bool(values["objective"]["maximize"]), values["created"], values["seconds"], tuple(parameters),
        values["static"], tuple(trials),
    )  # fmt: skip
