"""What becomes of every member of a request: honoured, recorded only, or refused. Nothing is dropped silently.

A member that is recorded is stored, shown by Describe, and told in the resource's warnings log; one that is refused
makes a ValidationException. A member that is false or empty asks for nothing, and is neither.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from botocore.model import Shape

from kennel.emulator.errors import ValidationException
from kennel.emulator.service_model.coverage_tables import TABLES, Table
from kennel.emulator.service_model.protocol import operation_model, service_model
from kennel.emulator.service_model.query_tables import QUERIES

_SERVICES = ("sagemaker", "sagemaker-runtime", "logs", "cloudwatch", "sts")
ALL_TABLES: Mapping[str, Table] = {**TABLES, **QUERIES}


class Treatment(Enum):
    """What the emulator does about a member."""

    HONOURED = "honoured"  # it has the effect that it has on SageMaker
    RECORDED = "recorded"  # Describe shows it, the warnings log tells why it has no effect
    REFUSED = "refused"  # the result would be another one than on SageMaker


@dataclass(frozen=True)
class Rule:
    """What becomes of a member, and why where it is not honoured."""

    treatment: Treatment
    reason: str = ""


@functools.cache
def input_shape(operation: str) -> Shape:
    """The shape of the requests of an operation of any of the services."""
    service = next(one for one in _SERVICES if operation in service_model(one).operation_names)
    return operation_model(service, operation).input_shape


@functools.cache
def rules_of(operation: str) -> dict[str, Rule]:
    """The rule of every member of a request, by dotted path; a structure's own rule stands for what is below it.

    Raises:
        KeyError: a member of botocore's model has no rule. A test keeps that from happening.
    """
    table = _read_table(ALL_TABLES[operation])
    shape = input_shape(operation)
    return {path: _rule(table, path) for path, member in members_of(shape) if member.type_name != "structure"}


def _read_table(table: Mapping[str, Mapping[str, str]]) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for treatment, groups in table.items():
        for paths, reason in groups.items():
            rules.update(dict.fromkeys(paths.split(), Rule(Treatment(treatment), reason)))
    return rules


def _rule(table: Mapping[str, Rule], path: str) -> Rule:
    """The member's own rule, or that of the nearest structure around it that has one for all below (`Name.*`)."""
    if path in table:
        return table[path]
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        wide = ".".join(parts[:length]) + ".*"
        if wide in table:
            return table[wide]
    raise KeyError(path)


def members_of(shape: Shape, path: str = "") -> Iterator[tuple[str, Shape]]:
    """Every member of a shape with its dotted path; of a list or a map, those of what it holds."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            inner = f"{path}.{name}" if path else name
            yield inner, member
            yield from members_of(member, inner)
    elif shape.type_name in ("list", "map"):
        yield from members_of(shape.member if shape.type_name == "list" else shape.value, path)


def accept(operation: str, request: Mapping[str, Any], problems: Sequence[str] = ()) -> list[str]:
    """The warnings about a request: a sentence for each member that is only recorded.

    Args:
        operation: such as CreateTrainingJob.
        request: checked against the model.
        problems: what else is wrong with it; it is told together with what is refused.

    Raises:
        ValidationException: there are problems, or members that are refused.
    """
    rules = rules_of(operation)
    shape = input_shape(operation)
    asked = [(path, rules[path]) for path in dict.fromkeys(_asked(request, shape))]
    refused = [
        f"'{path}' is not emulated: {rule.reason}" for path, rule in asked if rule.treatment is Treatment.REFUSED
    ]
    if problems or refused:
        raise ValidationException.of([*problems, *refused])
    return [f"{path} has no effect here: {rule.reason}" for path, rule in asked if rule.treatment is Treatment.RECORDED]


def _asked(value: Any, shape: Any, path: str = "") -> Iterator[str]:
    """The paths of the members that a request asks something with."""
    if shape.type_name == "structure":
        for name, one in value.items():
            yield from _asked(one, shape.members[name], f"{path}.{name}" if path else name)
    elif shape.type_name == "list" and shape.member.type_name == "structure":
        for one in value:
            yield from _asked(one, shape.member, path)
        if value:
            yield path
    elif value not in (False, "", [], {}):
        yield path


def markdown_tables() -> str:
    """All tables as docs/emulator.md shows them."""
    return "\n".join(f"### {operation}\n\n{_markdown_table(table)}" for operation, table in TABLES.items())


def _markdown_table(table: Mapping[str, Mapping[str, str]]) -> str:
    honoured = [_quoted(paths) for paths in table["honoured"]]
    lines = [f"Honoured: {', '.join(honoured)}.", ""]
    rows = [
        f"| {_quoted(paths)} | {treatment} | {reason} |"
        for treatment in ("recorded", "refused")
        for paths, reason in table.get(treatment, {}).items()
    ]
    head = ["| member | | why, or what to do |", "|---|---|---|"] if rows else []
    return "\n".join([*lines, *head, *rows]) + "\n" * bool(rows)


def _quoted(paths: str) -> str:
    return ", ".join(f"`{path}`" for path in paths.split())
