"""Parameters of rules: a frozen dataclass a rule, filled from the strings of RuleParameters."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from kennel.insight.errors import InsightError

# What a request says about the evaluation itself, not to the rule.
_NOT_THE_RULES = (
    "rule_to_invoke", "base_trial", "action_json", "source_s3_uri", "start_step", "end_step", "scan_interval_us",
)  # fmt: skip


def parameter(default: Any, about: str, *, documented: str = "", own: bool = False) -> Any:
    """A field of a rule's parameters.

    Args:
        default: its value where none is given; its type decides how strings are read.
        about: what it is.
        documented: the developer guide's default, where it is another one.
        own: whether it is Kennel's and unknown to AWS.
    """
    return field(default=default, metadata={"about": about, "documented": documented, "own": own})


@dataclass(frozen=True)
class NoParameters:
    """Of rules that have none."""


@dataclass(frozen=True)
class TensorChoice:
    """Which tensors a rule looks at; the union of both, all where neither is given."""

    collection_names: tuple[str, ...] = parameter((), "collections to look at")
    tensor_regex: tuple[str, ...] = parameter((), "regular expressions of tensor names")


def fill(rule: str, kind: type[Any], given: Mapping[str, str]) -> Any:
    """Read a rule's parameters.

    Args:
        rule: its name, for messages.
        kind: the dataclass.
        given: names and values as a request has them.

    Raises:
        InsightError: with every unknown name and every bad value.
    """
    known: dict[str, Field[Any]] = {one.name: one for one in fields(kind)}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, text in given.items():
        if name in known:
            try:
                values[name] = _read(known[name].default, str(text))
            except ValueError:
                problems.append(f"{rule}: {name} is '{text}'; write {_form(known[name].default)}.")
        elif name not in _NOT_THE_RULES:
            problems.append(f"{rule} has no parameter '{name}'{_guess(name, list(known))}")
    if problems:
        raise InsightError(" ".join(problems))
    return kind(**values)


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; it has {', '.join(known) or 'none'}."


def _read(default: Any, text: str) -> Any:
    """A value by the type of the default; AWS sends all as strings, lists with commas, pairs in parentheses."""
    if isinstance(default, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower()) or _false(text)
    if isinstance(default, tuple):
        parts = [part.strip().strip("'\"") for part in text.strip().strip("()[]").split(",")]
        is_pair = bool(default) and isinstance(default[0], float)
        return _pair(parts) if is_pair else tuple(part for part in parts if part)
    if default is None:
        return float(text)
    return type(default)(float(text)) if isinstance(default, int) else type(default)(text)


def _pair(parts: list[str]) -> tuple[float, float]:
    if len(parts) != 2:
        raise ValueError(parts)
    return float(parts[0]), float(parts[1])


def _false(text: str) -> bool:
    if text.strip().lower() not in ("false", "0"):
        raise ValueError(text)
    return False


def _form(default: Any) -> str:
    if isinstance(default, bool):
        return "True or False"
    if isinstance(default, tuple):
        return "(low, high)" if default and isinstance(default[0], float) else "names with commas between them"
    return "a number" if default is None or isinstance(default, int | float) else "text"


def _shown(default: Any) -> str:
    is_list = isinstance(default, tuple) and isinstance(default[0], str)
    return ", ".join(default) if is_list else str(default)


def described(kind: type[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Name, default, the developer guide's default, and meaning of each parameter, as documentation shows them."""
    for one in fields(kind):
        default = "none" if one.default in (None, (), "") else _shown(one.default)
        documented = "not AWS's" if one.metadata["own"] else one.metadata["documented"] or default
        yield one.name, default, documented, one.metadata["about"]
