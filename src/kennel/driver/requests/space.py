"""What a tuning job searches: `lr=log:1e-5..1e-1`, `batch_size=16,32,64`, held against the trainer's own table."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kennel.contract.errors import ConfigError
from kennel.contract.hyperparameters import HYPERPARAMETERS, Hyperparameter, canonical, parse_hyperparameters

CONTINUOUS, INTEGER, CATEGORICAL = "continuous", "integer", "categorical"
SCALINGS = {"auto": "Auto", "linear": "Linear", "log": "Logarithmic", "reverselog": "ReverseLogarithmic"}
MOST_VALUES = 30  # of one categorical parameter (CONTRACTS, C1; ParameterValues of the service model)
MOST_PARAMETERS = 30
FORMS = "Write a range, such as log:1e-5..1e-1 or 2..10, or a list, such as 16,32,64"


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that differs between trials."""

    name: str
    kind: str  # continuous, integer or categorical
    low: str = ""  # of ranges, as it was written
    high: str = ""
    scaling: str = "Auto"
    values: tuple[str, ...] = ()  # of a list

    @property
    def is_log(self) -> bool:
        """Whether equal factors are equal steps."""
        return self.scaling == "Logarithmic"

    def __str__(self) -> str:
        """As people write it."""
        if self.kind == CATEGORICAL:
            return ",".join(self.values)
        words = {scaling: word for word, scaling in SCALINGS.items()}
        before = "" if self.scaling == "Auto" else f"{words[self.scaling]}:"
        return f"{before}{self.low}..{self.high}"


def read(texts: Mapping[str, str]) -> tuple[Parameter, ...]:
    """The search space, checked by the table that the trainer itself reads.

    Args:
        texts: ranges and lists by the hyperparameter's name; hyphens and underscores mean the same.

    Raises:
        ConfigError: with one sentence for each unknown name, form that is none, and value that training would refuse.
    """
    found: list[Parameter] = []
    problems: list[str] = []
    for given, text in canonical(texts).items():
        row = HYPERPARAMETERS.get(given)
        if row is None:
            problems.append(_unknown(given))
            continue
        try:
            parameter = _read(row, text.strip())
            problems += _judge(row, parameter)
            found.append(parameter)
        except ValueError as error:
            problems.append(str(error))
    if len(texts) > MOST_PARAMETERS:
        problems.append(f"{len(texts)} hyperparameters are to be tuned; SageMaker takes {MOST_PARAMETERS}.")
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _read(row: Hyperparameter, text: str) -> Parameter:
    before, colon, rest = text.partition(":")
    scaling = SCALINGS.get(before.lower()) if colon else "Auto"
    if scaling is None:
        raise ValueError(
            f"The range of '{row.name}' is '{text}'; the scaling '{before}' is none of {', '.join(SCALINGS)}."
        )
    body = rest if colon else text
    low, dots, high = body.partition("..")
    if dots:
        return _range(row, text, low.strip(), high.strip(), scaling)
    values = tuple(value.strip() for value in body.split(","))
    if colon or len(values) < 2 or not all(values):
        raise ValueError(f"The range of '{row.name}' is '{text}'. {FORMS}{_choices(row)}.")
    return Parameter(row.name, CATEGORICAL, values=values)


def _choices(row: Hyperparameter) -> str:
    return f"; '{row.name}' takes {', '.join(row.choices)}" if row.choices else ""


def _range(row: Hyperparameter, text: str, low: str, high: str, scaling: str) -> Parameter:
    if row.type is str:
        raise ValueError(f"'{row.name}' is no number, so '{text}' is no range of it. Write a list{_choices(row)}.")
    try:
        ends = float(low), float(high)
    except ValueError:
        raise ValueError(f"The range of '{row.name}' is '{text}'. {FORMS}.") from None
    if not ends[0] < ends[1]:
        raise ValueError(f"The range of '{row.name}' is '{text}'; its lower end must be below its upper one.")
    if scaling == "Logarithmic" and ends[0] <= 0:
        raise ValueError(f"The range of '{row.name}' is '{text}'; a logarithmic one begins above 0.")
    if scaling == "ReverseLogarithmic" and (row.type is int or ends[0] < 0 or ends[1] >= 1):
        raise ValueError(
            f"The range of '{row.name}' is '{text}'; a reverse logarithmic one is of a fraction and lies in 0 <= x < 1."
        )
    return Parameter(row.name, INTEGER if row.type is int else CONTINUOUS, low, high, scaling)


def _judge(row: Hyperparameter, parameter: Parameter) -> Iterator[str]:
    """What the trainer would say to the ends of a range, or to each value of a list."""
    if len(parameter.values) > MOST_VALUES:
        yield f"'{row.name}' has {len(parameter.values)} values; SageMaker takes {MOST_VALUES}."
    if len(set(parameter.values)) < len(parameter.values):
        yield f"The list of '{row.name}' is '{parameter}'; a value is in it twice."
    for value in parameter.values or (parameter.low, parameter.high):
        try:
            parse_hyperparameters({row.name: value})
        except ConfigError as error:
            yield from error.problems


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), HYPERPARAMETERS, n=1)
    hint = f"Did you mean '{close[0]}'?" if close else "docs/training.md lists them."
    return f"Unknown hyperparameter '{name}' in the search space. {hint}"


def combinations(space: tuple[Parameter, ...]) -> int:
    """How many trials a grid of lists has."""
    return math.prod(len(parameter.values) for parameter in space)
