"""Which rules run, as one string: `auto`, `off`, or names with parameters such as `Overfit:patience=3,DeadRelu`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from kennel.insight.errors import InsightError
from kennel.insight.rules import AUTO, RULES


@dataclass(frozen=True)
class Choice:
    """A rule, and what it is given."""

    rule: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> list[Choice]:
    """Read the string.

    Raises:
        InsightError: with every unknown name and every parameter without a value.
    """
    if text == "off":
        return []
    found: list[Choice] = []
    problems: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part == "auto":
            found += [Choice(name, given) for name, given in AUTO.items()]
            continue
        name, *pairs = part.split(":")
        values = dict(pair.partition("=")[::2] for pair in pairs)
        problems += [f"{name} has the parameter '{key}' without a value." for key, value in values.items() if not value]
        if name in RULES:
            found.append(Choice(name, values))
        else:
            problems.append(unknown(name))
    if problems:
        raise InsightError(" ".join(problems))
    return list({choice.rule: choice for choice in found}.values())  # the last of a name, so that auto can be refined


def unknown(name: str) -> str:
    """The sentence about a rule that is not there."""
    close = difflib.get_close_matches(name, RULES, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(RULES)}."
    return f"There is no rule '{name}'. {hint}"
