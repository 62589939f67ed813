"""What the program that evaluates a rule has written, as a status of AWS's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.emulator.rules.requests import PROFILER, RuleRequest

DETAILS_CHARS = 1024  # of StatusDetails in botocore's service model


@dataclass(frozen=True)
class Result:
    """RuleEvaluationStatus and StatusDetails."""

    status: str
    details: str = ""


def read(rule: RuleRequest, folder: Path) -> Result | None:
    """The result as it stands; None while there is none."""
    return (
        _of_report(rule, folder / "output/profiler-output")
        if rule.kind == PROFILER
        else _of_rules(rule, folder / "output")
    )


def _of_rules(rule: RuleRequest, folder: Path) -> Result | None:
    value = _json(folder / "findings.json")
    if value is None or not value["rules"]:
        return None
    row = value["rules"][0]
    if row["status"] == "IssuesFound":
        first = value["findings"][0]
        return Result("IssuesFound", _met(rule, f" at step {first['step']}", f"{first['sentence']} {first['advice']}"))
    if row["status"] == "NotEnoughData":
        return Result("NoIssuesFound", row["detail"])
    return Result(row["status"], row["detail"])


def _of_report(rule: RuleRequest, folder: Path) -> Result | None:
    """The report writes a file for each rule, with the names that AWS's have."""
    rows = {path.stem: _json(path) for path in sorted((folder / "profiler-report").glob("*.json"))}
    judged = {name: row for name, row in rows.items() if row is not None and "RuleTriggered" in row}
    if not judged:
        return None
    fired = [name for name, row in judged.items() if row["RuleTriggered"]]
    if not fired:
        return Result("NoIssuesFound")
    said = " ".join(str(judged[name].get("Message", "")) for name in fired)
    return Result("IssuesFound", _met(rule, "", f"{', '.join(fired)}: {said}"))


def _met(rule: RuleRequest, when: str, more: str) -> str:
    """AWS's sentence, then what was found."""
    condition = f"Evaluation of the rule {rule.rule}{when} resulted in the condition being met."
    return f"RuleEvaluationConditionMet: {condition} {more}"


def _json(file: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
