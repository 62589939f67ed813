"""`watch`: judge a training from beside it. Its end is the end of standard input, which the trainer holds open."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kennel.insight.judging.choice import Choice, parse
from kennel.insight.judging.evaluation import Evaluation, makers_of
from kennel.insight.judging.following import follow
from kennel.insight.tables import line_of
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.sources import opened

_TOLD = 3  # findings of a rule in the log; the file has more
_NICENESS = 19  # the training has the cores; this takes what is left
EXAMPLE = "python -m kennel.insight watch job/output/data/tensors --output job/output/data/findings.json < some-pipe"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", help="where the hook writes; it need not be there yet")
    parser.add_argument("--rules", default="auto", metavar="NAME,NAME", help="auto, or Name:parameter=value,...")
    parser.add_argument(
        "--stop-on", default="", metavar="NAME,NAME", help="rules that stop the training when they fire"
    )
    parser.add_argument("--stop-pid", type=int, metavar="PID", help="the process that SIGUSR1 stops")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="write findings.json there")


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Judge until standard input ends, then once more, and return 0.

    Raises:
        InsightError: what was asked for cannot be done.
    """
    os.nice(_NICENESS)
    choices, stop_on = choose(arguments.rules, arguments.stop_on)
    stopped: list[str] = []
    told: Counter[str] = Counter()

    def tell(finding: Finding) -> None:
        told[finding.rule] += 1
        if told[finding.rule] <= _TOLD:
            say(line_of(finding))
        elif told[finding.rule] == _TOLD + 1:
            say(f"More findings of {finding.rule} are in {arguments.output.name}.")
        if finding.rule in stop_on and arguments.stop_pid and not stopped and not evaluation.ended:
            stopped.append(finding.rule)
            say(f"Action StopTraining: {finding.rule} is in stop_on.")
            os.kill(arguments.stop_pid, signal.SIGUSR1)

    with opened(arguments.folder) as source:
        evaluation = Evaluation(source, makers_of(choices), source.scratch)
        follow(evaluation, arguments.output, has_ended=_input_ends, tell=tell)
    return 0


def choose(rules: str, stop_on: str) -> tuple[list[Choice], set[str]]:
    """The rules to run, which include those that may stop the training.

    Raises:
        InsightError: a name that is none.
    """
    chosen = {choice.rule: choice for choice in parse(rules)}
    stopping = {choice.rule: choice for choice in parse(stop_on)}
    own = {name: choice for name, choice in stopping.items() if choice.parameters or name not in chosen}
    return list({**chosen, **own}.values()), set(stopping)


def _input_ends(wait_s: float) -> bool:
    ended = bool(select.select([sys.stdin], [], [], wait_s)[0])  # nothing is ever written: readable means ended
    if ended:
        with contextlib.suppress(PermissionError):  # only root may; the trainer waits now, and its cores are free
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    return ended
