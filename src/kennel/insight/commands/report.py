"""`report`: write the profiler report of a run, or of two side by side."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kennel.insight.errors import InsightError
from kennel.insight.profile import comparing, contents, writing
from kennel.insight.profile.analysis import Analysis, analyse, to_json
from kennel.insight.profile.reading import sources
from kennel.insight.profile.reading.run import Run, read
from kennel.insight.profile.rules import REPORT, RuleParameterError, build

EXAMPLE = "python -m kennel.insight report job/output/data --output report --usd-per-hour 0.736"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("source", help="what a run left: a folder, its output.tar.gz, or a file:// or s3:// URI")
    parser.add_argument("--and", dest="second", metavar="SOURCE", help="another run, to compare with")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write profiler-report.html, .pdf and the rules' JSON there"
    )
    parser.add_argument("--name", default="", help="of the run (default: as it told, or the folder's)")
    parser.add_argument("--second-name", default="", metavar="NAME", help="of the other run")
    parser.add_argument(
        "--run", type=int, metavar="N", help="which run of a folder that holds several (default: the last)"
    )
    parser.add_argument(
        "--usd-per-hour", type=float, metavar="USD", help="price of all machines; without it no cost is shown"
    )
    parser.add_argument("--price-source", default="", metavar="TEXT", help="where the price comes from")
    parser.add_argument(
        "--rule", default=REPORT, metavar="NAME", help=f"judge by this rule only (default {REPORT}: all)"
    )
    parser.add_argument("--parameters", type=Path, metavar="FILE", help="JSON object of RuleParameters")
    parser.add_argument("--no-pdf", action="store_true", help="HTML only")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Analyse, write, print, and return 0.

    Raises:
        InsightError: what was asked for cannot be done.
    """
    try:
        rules = build(_parameters(arguments.parameters), arguments.rule)
    except RuleParameterError as error:
        raise InsightError(str(error)) from error
    with ExitStack() as stack:
        found = _opened(arguments.source, arguments.name, arguments.run, stack)
        first = analyse(found, rules, arguments.usd_per_hour, arguments.price_source)
        second = None
        if arguments.second:
            other = _opened(arguments.second, arguments.second_name, None, stack)
            second = analyse(other, rules, arguments.usd_per_hour, arguments.price_source)
    files = _write(first, second, arguments)
    result: dict[str, Any] = to_json(first) if second is None else {"first": to_json(first), "second": to_json(second)}
    text = _told(first, second, files)
    result |= {"files": [str(path) for path in files], "text": text}
    say(writing.as_json(result).rstrip() if arguments.json else text)
    return 0


def _parameters(file: Path | None) -> Mapping[str, str]:
    if file is None:
        return {}
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in values.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InsightError(f"{file} is no JSON object of parameters ({error}). Write one.") from error


def _opened(source: str, name: str, which: int | None, stack: ExitStack) -> Run:
    """Read a run from a folder or an archive."""
    try:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = read(sources.find(*sources.opened(source, scratch)), name, which)
    except sources.NothingThereError as error:
        raise InsightError(f"{error} Give what a run left: its folder, or its output.tar.gz.") from error
    return found if found.name else found.named(Path(source).absolute().name.removesuffix(".tar.gz"))


def _write(first: Analysis, second: Analysis | None, arguments: argparse.Namespace) -> list[Path]:
    folder: Path | None = arguments.output
    if folder is None:
        return []
    try:
        if second is not None:
            document = comparing.comparison(first, second)
            return writing.write(document, folder, name="profiler-comparison", with_pdf=not arguments.no_pdf)
        made = writing.write_rules(first, folder)
        return writing.write(contents.report(first), folder, with_pdf=not arguments.no_pdf) + made
    except OSError as error:
        raise InsightError(f"The report cannot be written to {folder}: {error.strerror or error}.") from error


def _told(first: Analysis, second: Analysis | None, files: list[Path]) -> str:
    """The advice and the rules that fired, in a few lines, and where the rest is."""
    lines: list[str] = []
    for one in (first, second):
        if one is None:
            continue
        lines += [f"{one.run.name}: {text}" for text in one.problems]
        lines += [f"{one.run.name}: {a.change}: {contents.gain(a)}. {a.reason}" for a in one.advice]
        fired = [verdict.rule for verdict in one.verdicts if verdict.fired]
        lines.append(f"{one.run.name}: rules that fired: {', '.join(fired) or 'none'}")
    shown = [str(path) for path in files if path.suffix in (".html", ".pdf")]
    return "\n".join([*lines, *(f"report: {path}" for path in shown)])
