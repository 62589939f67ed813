"""Rules that judge a training from beside it: a process of its own, with what the training leaves of the cores."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kennel.classifier.processes.stop import StopSignal
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.programs import INSIGHT

_LOG = logging.getLogger(__name__)
_FINISH_S = 60.0  # after the last step: to read what is left and write the file; what it wrote before stays
_HURRY_S = 10.0  # the platform waits 120 seconds after SIGTERM, and the artifact is yet to be written


@contextlib.contextmanager
def beside(folder: Path | None, config: TrainConfig, findings: Path, stop: StopSignal) -> Iterator[None]:
    """Judge the tensors of a folder while the block runs, and once more at its end.

    A rule of `stop_on` that fires sends SIGUSR1 to this process. The other one's standard input is a pipe that only
    this process holds: it ends with the block, or with this process, however that ends.

    Args:
        folder: where the hook writes; None: there is no hook, and nothing is judged.
        config: `rules` and `stop_on`.
        findings: the file with the result.
        stop: leaves less time for the end where the platform asks for one.
    """
    process = _start(folder, config, findings) if folder and config.rules != "off" else None
    try:
        yield
    finally:
        if process is not None:
            _finish(process, _HURRY_S if stop and not stop.by_rule else _FINISH_S)


def _start(folder: Path, config: TrainConfig, findings: Path) -> subprocess.Popen[bytes] | None:
    if importlib.util.find_spec("kennel.insight") is None:
        _LOG.warning("No rules: the package kennel.insight is not here.")
        return None
    findings.unlink(missing_ok=True)  # of an earlier run in this folder
    stop_on = "" if config.stop_on == "none" else config.stop_on
    command = [sys.executable, "-m", INSIGHT, "watch", str(folder), "--output", str(findings)]
    command += ["--rules", config.rules, "--stop-on", stop_on, "--stop-pid", str(os.getpid())]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environ)
    except OSError as error:
        _LOG.warning("No rules: their process cannot be started (%s).", error)
        return None
    _LOG.info("Rules: %s beside the training; findings in %s", config.rules, findings)
    return process


def _finish(process: subprocess.Popen[bytes], limit_s: float) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        _LOG.warning("The rules were not through %.0f s after the last step; their file has what was found.", limit_s)
        return
    if code:
        _LOG.warning("The rules ended with status %d; the training is not hurt by it.", code)
