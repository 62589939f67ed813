"""A trainer that is started before its job comes: it has imported everything, and waits.

The local SageMaker starts `python -m kennel.classifier standby SECONDS` in the base folder of a job that does not exist
yet. When one comes, it writes `input/standby.json`, an empty object: do not give up any more. When the folder is laid
out as for any other job, it writes the file anew, with the variables of that job as `environ`. This process takes the
file away and becomes the trainer, for this one job. Nothing of an earlier job can be here, because none was.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

from kennel.contract.paths import ContainerPaths

_POLL_S = 0.01
_MODULES = ("kennel.classifier.training.run", "kennel.classifier.processes.launch")  # torch, torchvision, matplotlib


def preload() -> None:
    """Import what a job needs."""
    for module in _MODULES:
        importlib.import_module(module)


def wait(seconds: float, folder: Path = Path()) -> bool:
    """Import what a job needs, wait for one, and take over its environment; False when none has come.

    Args:
        seconds: how long it waits after its imports.
        folder: the base folder; the default is the working directory, which keeps its place when it is renamed.
    """
    preload()
    file = ContainerPaths(folder).standby_file
    deadline = time.monotonic() + seconds
    while "environ" not in (said := _read(file)):
        if time.monotonic() > deadline and not file.exists():
            return False
        time.sleep(_POLL_S)
    file.unlink()
    os.environ.update(said["environ"])
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return said
