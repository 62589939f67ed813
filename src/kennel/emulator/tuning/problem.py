"""A search as plain values, which go over the line to the program that suggests."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kennel.emulator.tuning.space import Parameter

GP, TPE = "gp", "tpe"


@dataclass(frozen=True)
class Trial:
    """What is known of one trial."""

    params: dict[str, str]
    state: str  # running, complete, failed, or pruned: ended by Hyperband
    value: float | None = None
    step: int = 0  # epochs that it has reported
    rungs: dict[str, float] = field(default_factory=dict)  # Hyperband's notes on it
    source: int = 0  # 0: of this job; others: a parent job's


@dataclass(frozen=True)
class Problem:
    """A search with all that is known of it."""

    strategy: str  # as the API has it
    space: tuple[Parameter, ...]
    maximize: bool
    seed: int
    trials: tuple[Trial, ...] = ()  # in the order of their numbers; those of parents come first
    engine: str = TPE  # of the Bayesian strategy
    transfer: bool = False  # values of different sources are comparable only within their source
    min_resource: int = 1  # epochs, for Hyperband
    max_resource: int = 1


def choose_engine() -> tuple[str, str]:
    """Gaussian processes where torch is there, which Optuna's need, and Parzen estimators elsewhere; and why."""
    if importlib.util.find_spec("torch"):
        return GP, "Optuna's Gaussian processes, since torch is installed"
    return TPE, "Optuna's tree of Parzen estimators, since its Gaussian processes need torch, which is not installed"


def read_problem(given: Mapping[str, Any]) -> Problem:
    """A problem from its JSON, which is dataclasses.asdict of it."""
    space = tuple(Parameter(**{**one, "values": tuple(one["values"])}) for one in given["space"])
    return Problem(**{**given, "space": space, "trials": tuple(Trial(**one) for one in given["trials"])})
