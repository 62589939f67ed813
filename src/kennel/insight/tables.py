"""Results as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kennel.insight.tensors.finding import Finding

_SHOWN = 3  # findings of a rule


def report(result: Mapping[str, Any]) -> str:
    """What `Evaluation.to_json` gives: a table of the rules, then the first findings of each with what to do."""
    rows = [
        (row["rule"], row["status"], str(row["triggered"]), str(row["datapoints"]), row["detail"])
        for row in result["rules"]
    ]
    told = [row[-1] for row in rows]
    shared = told[0] if len(told) > 1 and len(set(told)) == 1 else ""  # what all have to say is said once
    table = [("rule", "status", "times", "values", ""), *((*row[:-1], "" if shared else row[-1]) for row in rows)]
    parts = [columns(table), *([shared] if shared else [])]
    for rule, _, times, *_ in rows:
        found = [finding for finding in result["findings"] if finding["rule"] == rule]
        lines = [f"{one['mode']} step {one['step']}: {one['sentence']}" for one in found[:_SHOWN]]
        advice = list(dict.fromkeys(one["advice"] for one in found[:_SHOWN]))
        if found:
            more = [f"{times} in all; --json lists the first {len(found)}"] if len(found) > _SHOWN else []
            parts.append("\n  ".join([rule, *lines, *more, *advice]))
    return "\n\n".join([*parts, *(f"note: {note}" for note in result["notes"])])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def line_of(finding: Finding) -> str:
    """A finding as one line of a log."""
    return f"Finding: {finding.rule}, {finding.mode} step {finding.step}: {finding.sentence} {finding.advice}"
