"""What the trials of a tuning job have in common on this machine: a folder for results that none of them tunes.

SageMaker gives its trials no such folder, so images must do without. Kennel's trainer keeps in it what every trial
would compute alike (classifier/training/shared.py). It is there while the tuning job goes on. Trials of several
instances get none.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kennel.emulator.state.home import Home

FOLDER = "_shared_dir"  # a private member of a training job's document: the folder on this machine


def given_to_trials(home: Home, tuning_job: str) -> dict[str, str]:
    """The members of a trial's document that give it the folder."""
    return {FOLDER: str(home.shared_dir(tuning_job))}


def folder_of(document: Mapping[str, Any]) -> Path | None:
    """The folder that a training job is given."""
    found = document.get(FOLDER)
    return Path(found) if found else None


def remove(home: Home, tuning_job: str) -> None:
    """The tuning job is over: nobody needs the folder any more."""
    shutil.rmtree(home.shared_dir(tuning_job).parent, ignore_errors=True)


def remove_others(home: Home, going_on: Collection[str]) -> None:
    """After a restart: remove the folders of all tuning jobs but those that go on."""
    for folder in (home.path / "tunings").glob("*/"):
        if folder.name not in going_on:
            shutil.rmtree(folder, ignore_errors=True)
