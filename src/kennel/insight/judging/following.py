"""An evaluation beside a training that still runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kennel.insight.errors import InsightError
from kennel.insight.judging.evaluation import Evaluation
from kennel.insight.tensors.finding import Finding

_LEAST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_SHARE = 0.05  # of the time may go into looking; the rest is paused


def follow(
    evaluation: Evaluation,
    file: Path,
    *,
    has_ended: Callable[[float], bool],
    tell: Callable[[Finding], None],
) -> None:
    """Look again and again until the end, and write the file whenever something changed.

    Args:
        evaluation: the rules and their run.
        file: findings.json.
        has_ended: waits up to so many seconds for the end of the training, and says whether it has come.
        tell: is given each finding that is new.

    Raises:
        InsightError: the file could not be written in the end; the findings were told all the same.
    """
    unwritten = _write(evaluation, file)
    pause_s, ended = 0.0, False
    while not ended:
        ended = has_ended(pause_s)
        began = time.monotonic()
        new = evaluation.advance(final=ended, now_s=None if ended else time.time())
        if new or ended or unwritten:
            unwritten = _write(evaluation, file)
        for finding in new:  # after the file, so that who is told finds it there
            tell(finding)
        pause_s = min(_LONGEST_PAUSE_S, max(_LEAST_PAUSE_S, (time.monotonic() - began) / _SHARE))
    if unwritten:
        raise InsightError(f"{file} could not be written: {unwritten}. What was found is in the log.")


def _write(evaluation: Evaluation, file: Path) -> OSError | None:
    """Nothing, or why it failed: the disk may be full."""
    try:
        evaluation.write(file)
    except OSError as error:
        return error
    return None
