"""`rules`: judge a run by rules, afterwards or while it goes on."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kennel.insight.errors import InsightError
from kennel.insight.judging.choice import parse
from kennel.insight.judging.evaluation import Evaluation, Maker, makers_of
from kennel.insight.judging.following import follow
from kennel.insight.tables import report
from kennel.insight.tensors.sources import fetch_file, opened

_TOLD_AT_LEAST_EVERY_S = 0.2
EXAMPLE = "python -m kennel.insight rules job/output/data --rules VanishingGradient:threshold=1e-6,DeadRelu"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("source", help="tensors: a folder, an output.tar.gz, a file:// or an s3:// URI")
    parser.add_argument("--rules", default="", metavar="NAME,NAME", help="auto (default), or Name:parameter=value,...")
    parser.add_argument(
        "--parameters", type=Path, metavar="FILE", help="JSON object of the parameters of the one rule that is named"
    )
    parser.add_argument("--custom", metavar="FILE", help="Python file with a subclass of smdebug.rules.rule.Rule")
    parser.add_argument("--until", type=Path, metavar="FILE", help="go on until this file is there")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write findings.json there")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Judge, print, and return 0.

    Raises:
        InsightError: what was asked for cannot be done.
    """
    with opened(arguments.source) as source:
        if not arguments.until:
            source.require()
        evaluation = Evaluation(source, _makers(arguments, source.scratch), source.scratch)
        if arguments.until:
            until: Path = arguments.until
            output = arguments.output or Path("findings.json")
            follow(evaluation, output, has_ended=lambda wait_s: _appears(until, wait_s), tell=lambda _: None)
        else:
            _judge_once(evaluation, arguments)
        result = evaluation.to_json()
    say(json.dumps(result, indent=2, ensure_ascii=False) if arguments.json else report(result))
    return 0


def _judge_once(evaluation: Evaluation, arguments: argparse.Namespace) -> None:
    evaluation.advance(final=True)
    if arguments.output:
        evaluation.write(arguments.output)


def _makers(arguments: argparse.Namespace, scratch: Path) -> list[tuple[str, Maker]]:
    given = _parameters(arguments.parameters) if arguments.parameters else {}
    if arguments.custom:
        from kennel.insight.judging.custom import load

        file = fetch_file(arguments.custom, scratch / "custom")
        return [(arguments.rules or file.stem, load(file, arguments.rules, given))]
    choices = parse(arguments.rules or "auto")
    if not given:
        return makers_of(choices)
    if len(choices) != 1:
        raise InsightError(f"--parameters are of one rule, but --rules names {len(choices)}. Name one.")
    from kennel.insight.judging.choice import Choice

    return makers_of([Choice(choices[0].rule, {**choices[0].parameters, **given})])


def _parameters(file: Path) -> Mapping[str, str]:
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in values.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InsightError(f"{file} is no JSON object of parameters ({error}). Write one.") from error


def _appears(file: Path, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while not file.exists() and file.parent.is_dir():  # who takes the folder away wants an end, too
        if time.monotonic() >= deadline:
            return False
        time.sleep(_TOLD_AT_LEAST_EVERY_S)
    return True
