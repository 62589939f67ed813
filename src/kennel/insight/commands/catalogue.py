"""`catalogue`: the rules and their parameters as documentation shows them."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable

from kennel.insight.rules import AUTO, RULES
from kennel.insight.tensors.parameters import described

EXAMPLE = "python -m kennel.insight catalogue"


def configure(parser: argparse.ArgumentParser) -> None:
    """There are no arguments."""
    parser.set_defaults(catalogue=True)


def run(_arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Print the Markdown, and return 0."""
    say(markdown().rstrip())
    return 0


def markdown() -> str:
    """A table of the rules, and one of their parameters."""
    lines = ["| rule | fires when | by itself |", "|---|---|---|"]
    for name, rule in RULES.items():
        paragraph = (inspect.getdoc(rule) or "").split("\n\n", 1)[0].replace("\n", " ")
        about = paragraph.split(" Source: ")[0].removeprefix("Fires when ").rstrip(".").replace("|", "\\|")
        lines.append(f"| `{name}` | {about} | {_by_itself(name)} |")
    lines += ["", "| rule | parameter | default | the guide's | meaning |", "|---|---|---|---|---|"]
    for name, rule in RULES.items():
        for parameter, default, documented, about in described(rule.Parameters):
            values = (_cell(default), "same" if documented == default else _cell(documented))
            lines.append(f"| `{name}` | `{parameter}` | {values[0]} | {values[1]} | {about} |")
    return "\n".join(lines) + "\n"


def _by_itself(name: str) -> str:
    given = ", ".join(f"{key}={value}" for key, value in AUTO.get(name, {}).items())
    return "no" if name not in AUTO else f"yes, with {given}" if given else "yes"


def _cell(value: str) -> str:
    return value.replace("|", "\\|")
