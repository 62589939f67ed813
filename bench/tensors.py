"""How fast a job's tensors are read: Kennel's reader against smdebug's own, processor time, in one run.

The folder is that of any job that ran with the debugger, such as the demo's.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from bench import machine
from bench.rows import Row, show
from kennel.insight.judging.smdebug_trial import SmdebugTrial
from kennel.insight.tensors.trial import Step, Trial


def cpu_s(read: Callable[[], int]) -> float:
    """Processor time of this process for reading at least one tensor."""
    began_s = time.process_time()
    if not read():
        raise SystemExit("There is no tensor in that folder.")
    return time.process_time() - began_s


def by_kennel(folder: Path) -> int:
    """Open the folder and read every tensor of every step, or its mean where reductions were saved; how many."""
    trial = Trial(folder, folder)
    trial.refresh(final=True)
    found = ((trial.value(name, step), trial.reduction(name, step, "mean")) for step, name in _tensors(trial))
    return sum(any(value is not None for value in pair) for pair in found)


def by_smdebug(folder: Path) -> int:
    """The same by smdebug, which needs Kennel's trial to know which folders it can open."""
    from smdebug.exceptions import TensorUnavailableForStep

    trial = Trial(folder, folder)
    trial.refresh(final=True)
    theirs = SmdebugTrial(trial)
    count = 0
    for step, name in _tensors(trial):
        if theirs.has(step.number) and theirs.trial.has_tensor(name):
            tensor = theirs.trial.tensor(name)
            with contextlib.suppress(TensorUnavailableForStep):
                count += tensor.value(step.number) is not None
                continue
            with contextlib.suppress(TensorUnavailableForStep):
                count += tensor.reduction_value(step.number, "mean", abs=False) is not None
    return count


def _tensors(trial: Trial) -> list[tuple[Step, str]]:
    return [(step, name) for step in trial.steps for name in trial.names(step)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.tensors", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("folder", type=Path, help="tensors of a job, such as build/demo/output/data/tensors")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured (default 7)")
    options = parser.parse_args()
    by_smdebug(options.folder)  # its import is not what is measured
    pairs = [
        (cpu_s(lambda: by_smdebug(options.folder)), cpu_s(lambda: by_kennel(options.folder)))
        for _ in range(options.rounds)
    ]
    ratios = tuple(theirs / ours for theirs, ours in pairs)
    shown = f"the last round: {pairs[-1][0] * 1e3:.0f} ms and {pairs[-1][1] * 1e3:.0f} ms"
    show(machine.describe(), [Row("reading", "smdebug's time by Kennel's", "at least 1", ratios, "x", shown)])


if __name__ == "__main__":
    main()
