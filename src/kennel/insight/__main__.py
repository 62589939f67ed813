"""`python -m kennel.insight`: reads what runs left. The only module here that prints."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from kennel.insight.errors import InsightError

COMMANDS = {  # a module of `kennel.insight.commands` each, with configure(parser), run(arguments, say) and EXAMPLE
    "rules": "judge a run by debugger rules",
    "watch": "judge a training from beside it, as the trainer asks for",
    "catalogue": "print the tables of debugger rules as Markdown",
    "report": "write the profiler report of a run, or of two side by side",
    "tuning": "judge what a tuning job found, and write its page",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status: 0, or 1 after one line about what was wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m kennel.insight", description="Read what a run left.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, about in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in words[:1]:  # the others need not be imported
            module = importlib.import_module(f"kennel.insight.commands.{name}")
            subparser.epilog = f"example:\n  {module.EXAMPLE}"
            module.configure(subparser)
    arguments = parser.parse_args(words)
    try:
        return int(module.run(arguments, lambda line: print(line, flush=True)))
    except InsightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
