"""The profiler's report at the end of a training: made by `kennel.insight` as a program of its own, in bounded time."""

from __future__ import annotations

import logging
import subprocess
import sys

from kennel.contract.paths import ContainerPaths
from kennel.contract.programs import INSIGHT

LEAST_STEPS = 20  # fewer say little; `kennel report` takes any run
_LIMIT_S = 120.0  # a report is no reason to pay for a machine any longer
_LOG = logging.getLogger(__name__)


def write(paths: ContainerPaths, *, limit_s: float = _LIMIT_S) -> None:
    """Leave `profiler-report.html`, its PDF and the rules' JSON in the job's output; a failure is a warning.

    Args:
        paths: the job's folders; everything below the base is looked through for what the run left.
        limit_s: the program is killed then.
    """
    command = [
        sys.executable,
        "-m",
        INSIGHT,
        "report",
        str(paths.base),
        "--output",
        str(paths.output_data_dir),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        _LOG.warning("No profiler report: it was not ready after %.0f s. Make it with: kennel report JOB", limit_s)
    except OSError as error:
        _LOG.warning("No profiler report: %s", error)
    else:
        if done.returncode:
            _LOG.warning("No profiler report: %s", (done.stderr.strip().splitlines() or ["no reason given"])[-1])
        for line in done.stdout.splitlines():
            _LOG.info("Profiler: %s", line)
