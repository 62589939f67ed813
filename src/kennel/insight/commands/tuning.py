"""`tuning`: judge what a tuning job found, and write its page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from kennel.insight.errors import InsightError
from kennel.insight.tuning.importance import importance
from kennel.insight.tuning.study import Study, read

EXAMPLE = (
    "kennel tune show JOB --json > tuning.json && python -m kennel.insight tuning tuning.json --output tuning.html"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", type=Path, help="the tuning job, as kennel tune show --json prints it")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Judge, write, print, and return 0.

    Raises:
        InsightError: what was asked for cannot be done.
    """
    study = read(arguments.file)
    shares, remark = importance(study)
    if arguments.output:
        _write(arguments.output, study, shares, remark)
    if arguments.json:
        say(json.dumps({"importance": shares, "remark": remark, "page": str(arguments.output or "")}))
    else:
        lines = [f"{name}  {100 * share:.0f} %" for name, share in shares.items()]
        say("\n".join([*lines, *filter(None, [remark, str(arguments.output or "")])]))
    return 0


def _write(output: Path, study: Study, shares: dict[str, float], remark: str) -> None:
    from kennel.insight.profile.writing import put
    from kennel.insight.report.html import page  # Altair and the charts' JavaScript
    from kennel.insight.tuning.contents import page_of

    try:
        put(output, page(page_of(study, shares, remark)).encode())
    except OSError as error:
        raise InsightError(f"The page cannot be written to {output}: {error.strerror or error}.") from error
