"""smdebug's own trial of a folder, which users' rules ask for their tensors. Nothing else needs smdebug.

smdebug's `create_trial` waits for ever on a folder without a collections file, retries a missing event file for
minutes, and gives up the whole trial at one cut-off index file. Here Kennel's trial has opened the folder before, and
smdebug's sees the steps that it shows, whose index files can be read; nothing waits.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import Any

from kennel.insight.tensors.trial import Trial

os.environ.setdefault("SMDEBUG_LOG_LEVEL", "error")  # it prints to stdout, where results go; read at import
# What smdebug 1.0.34 needs, and does not declare; `train` in pyproject.toml has the same.
REQUIREMENTS = ("smdebug==1.0.34", "numpy>=2.2,<2.3", "pandas>=2.2", "psutil>=6", "requests>=2.32")


def rule_class() -> Any:
    """smdebug's Rule; None where smdebug, or what it needs, is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # distutils and the like, which are smdebug's to leave
        try:
            from smdebug.rules.rule import Rule
        except ModuleNotFoundError:
            return None
    return Rule


class SmdebugTrial:
    """smdebug's trial beside Kennel's of the same folder."""

    def __init__(self, trial: Trial) -> None:
        """Open it."""
        self._trial = trial
        self.trial = _open(trial)

    def has(self, number: int) -> bool:
        """Look for new steps where this one is not known, and tell whether it is now.

        What Kennel's trial shows counts as complete: smdebug would wait for workers that may have died.
        """
        theirs = self.trial
        if number not in theirs.steps(show_incomplete_steps=True):
            with contextlib.suppress(OSError):  # a file that went away between two looks
                theirs.refresh_data()
        theirs.loaded_all_steps = self._trial.ended
        if number not in theirs.steps(show_incomplete_steps=True):
            return False
        theirs.last_complete_step = max(theirs.last_complete_step, number)
        return True


def _open(trial: Trial) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from smdebug.core.index_reader import LocalIndexReader
        from smdebug.trials.local_trial import LocalTrial

    class Reader(LocalIndexReader):  # type: ignore[misc]  # smdebug has no types
        def list_index_files(self) -> list[str]:
            return [str(path) for path in trial.index_files()]

    class Tolerant(LocalTrial):  # type: ignore[misc]
        def _load_collections(self) -> None:
            self.index_reader = Reader(self.path)
            self.index_reader.event_file_retry_limit = 0
            super()._load_collections()

    theirs = Tolerant(trial.folder.name, str(trial.folder))
    theirs.dynamic_refresh = False  # otherwise every question reads the folder anew
    theirs._training_end_delay_refresh = 0
    return theirs
