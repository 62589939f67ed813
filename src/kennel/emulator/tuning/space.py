"""What a tuning job searches: the hyperparameters with their ranges and scales, from a request's ParameterRanges.

Source: API reference, ParameterRanges; developer guide, "Define Hyperparameter Ranges". How the scale Auto is chosen is
not published; here it is the logarithmic or reverse logarithmic one where the range spans two powers of ten on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

INTEGER, CONTINUOUS, CATEGORICAL = "integer", "continuous", "categorical"
LINEAR, LOG, REVERSE_LOG = "Linear", "Logarithmic", "ReverseLogarithmic"
_AUTO_RATIO = 100.0  # of the ends of a range, from which on a logarithmic scale is better than none
_HINT_FACTOR = 10.0  # a hint's range, up and down
_NUMERIC = {"IntegerParameterRanges": INTEGER, "ContinuousParameterRanges": CONTINUOUS}
Ranges = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter that is tuned."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    scale: str = LINEAR
    values: tuple[str, ...] = ()

    def coordinate(self, text: str) -> float | str | None:
        """Where a hyperparameter's text lies on the searched axis; None outside the range."""
        if self.kind == CATEGORICAL:
            return text if text in self.values else None
        try:
            value = float(text)
        except ValueError:
            return None
        if not self.low <= value <= self.high or (self.kind == INTEGER and value != int(value)):
            return None
        return 1 - value if self.scale == REVERSE_LOG else value

    def text(self, coordinate: float | str) -> str:
        """The hyperparameter as a job gets it."""
        if isinstance(coordinate, str):
            return coordinate
        if self.kind == INTEGER:
            return str(int(coordinate))
        value = 1 - coordinate if self.scale == REVERSE_LOG else float(coordinate)
        return repr(min(max(value, self.low), self.high))

    @property
    def choices(self) -> float:
        """How many values there are; infinite for a continuous range of more than one."""
        if self.kind == CATEGORICAL:
            return len(self.values)
        if self.low == self.high:
            return 1
        return self.high - self.low + 1 if self.kind == INTEGER else math.inf


def auto_scale(kind: str, low: float, high: float) -> str:
    """The scale of a range for which Auto was asked, or nothing."""
    spans = {LOG: high / low if low > 0 else 0.0}
    if kind == CONTINUOUS and low >= 0 and high < 1:
        spans[REVERSE_LOG] = (1 - low) / (1 - high)
    best = max(spans, key=lambda scale: spans[scale])
    return best if spans[best] >= _AUTO_RATIO else LINEAR


def read_space(ranges: Ranges) -> tuple[Parameter, ...]:
    """The parameters of ranges without problems, by name, so that their order in the request does not matter."""
    found = [_numeric(kind, one) for member, kind in _NUMERIC.items() for one in ranges.get(member) or []]
    found += [
        Parameter(one["Name"], CATEGORICAL, values=tuple(dict.fromkeys(one["Values"])))
        for one in ranges.get("CategoricalParameterRanges") or []
    ]
    return tuple(sorted(found, key=lambda parameter: parameter.name))


def _numeric(kind: str, one: Mapping[str, str]) -> Parameter:
    low, high = float(one["MinValue"]), float(one["MaxValue"])
    scale = one.get("ScalingType", "Auto")
    return Parameter(one["Name"], kind, low, high, auto_scale(kind, low, high) if scale == "Auto" else scale)


def names_of(ranges: Ranges) -> list[str]:
    """The names of all hyperparameters in the ranges, repeated ones repeated."""
    members = (*_NUMERIC, "CategoricalParameterRanges", "AutoParameters")
    return [one["Name"] for member in members for one in ranges.get(member) or []]


def range_problems(ranges: Ranges) -> Iterator[str]:
    """Sentences about ranges that hold nothing, or not what their scale needs."""
    for member, kind in _NUMERIC.items():
        for one in ranges.get(member) or []:
            yield from _numeric_problems(member, kind, one)
    for one in ranges.get("CategoricalParameterRanges") or []:
        twice = sorted({value for value in one["Values"] if one["Values"].count(value) > 1})
        if twice:
            yield f"CategoricalParameterRanges: '{one['Name']}' has the value '{twice[0]}' twice. Name it once."


def _numeric_problems(member: str, kind: str, one: Mapping[str, str]) -> Iterator[str]:
    place = f"{member}: '{one['Name']}'"
    ends: list[float] = []
    for end in ("MinValue", "MaxValue"):
        try:
            ends.append(_number(kind, one[end]))
        except ValueError:
            yield f"{place} has the {end} '{one[end]}', which is no {kind} number. Send one, such as '1'."
    if len(ends) < 2:
        return
    low, high = ends
    scale = one.get("ScalingType", "Auto")
    if low > high:
        yield f"{place} has MinValue {one['MinValue']} above MaxValue {one['MaxValue']}. Exchange them."
    elif scale == LOG and low <= 0:
        yield f"{place}: Logarithmic scaling needs values greater than 0, not {one['MinValue']}. Raise MinValue."
    elif scale == REVERSE_LOG and kind == INTEGER:
        yield f"{place}: ReverseLogarithmic scaling is for continuous ranges within 0<=x<1. Use another one."
    elif scale == REVERSE_LOG and (low < 0 or high >= 1):
        yield f"{place}: ReverseLogarithmic scaling needs a range within 0<=x<1, not {low:g} to {high:g}."


def _number(kind: str, text: str) -> float:
    value = float(int(text)) if kind == INTEGER else float(text)
    if not math.isfinite(value) or (kind == INTEGER and abs(value) > 2**53):
        raise ValueError(text)
    return value


def resolve_auto(ranges: Ranges) -> tuple[dict[str, Any], dict[str, str]]:
    """AutoParameters as ranges around their hints, and as static values where a hint is no number and no flag."""
    resolved = {member: list(found) for member, found in ranges.items() if member != "AutoParameters"}
    static: dict[str, str] = {}
    for one in ranges.get("AutoParameters") or []:
        member, made = _around(one["Name"], one["ValueHint"])
        if member:
            resolved.setdefault(member, []).append(made)
        else:
            static[one["Name"]] = one["ValueHint"]
    return resolved, static


def _around(name: str, hint: str) -> tuple[str, dict[str, Any]]:
    if hint.lower() in ("true", "false"):
        values = ["True", "False"] if hint[0].isupper() else ["true", "false"]
        return "CategoricalParameterRanges", {"Name": name, "Values": values}
    try:
        value = float(hint)
    except ValueError:
        return "", {}
    if not math.isfinite(value) or value <= 0:
        return "", {}
    if hint.isdecimal():
        low, high = max(1, int(value / _HINT_FACTOR)), int(value * _HINT_FACTOR)
        return "IntegerParameterRanges", {"Name": name, "MinValue": str(low), "MaxValue": str(high)}
    low_value, high_value = value / _HINT_FACTOR, value * _HINT_FACTOR
    if value < 1 <= high_value:  # a share: dropout, momentum
        high_value = 1 - (1 - value) / _HINT_FACTOR
    return "ContinuousParameterRanges", {"Name": name, "MinValue": repr(low_value), "MaxValue": repr(high_value)}
