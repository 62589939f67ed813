"""Commands about what a run left: the profiler report."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from kennel.driver.commands.context import Context, Result
from kennel.driver.jobs import profiles


def report(context: Context) -> Result:
    """`kennel report`: a run, or two side by side with --compare."""
    arguments, session = context.arguments, context.session
    with tempfile.TemporaryDirectory() as scratch:
        first = profiles.resolve(session, arguments.what, _folder(scratch, "1"))
        words = ["report", str(first.folder), "--name", first.name, "--json"]
        if arguments.compare:
            second = profiles.resolve(session, arguments.compare, _folder(scratch, "2"))
            words += ["--and", str(second.folder), "--second-name", second.name]
        price = arguments.usd_per_hour if arguments.usd_per_hour is not None else first.usd_per_hour
        if price is not None:
            words += ["--usd-per-hour", str(price), "--price-source", first.price_source]
        if arguments.run is not None:
            words += ["--run", str(arguments.run)]
        output = arguments.output or Path(f"report-{first.name}")
        printed = profiles.run_insight([*words, "--output", str(output)], session)
    found = json.loads(printed)
    return Result(found["text"], found)


def _folder(scratch: str, name: str) -> Path:
    made = Path(scratch) / name
    made.mkdir()
    return made
