"""Kennel's own trainer with its loaders replaced by lists of batches: what a loader that costs nothing would give.

`python -m bench.in_memory train --base-dir JOB ...` takes what `python -m kennel.classifier` takes. All else is the
trainer's: autocast, normalisation, loss, optimizer, metrics. Every epoch sees the views of the first one. On a
GPU the batches lie in pinned memory of the host, where the trainer's loader leaves them.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from typing import Any

from torch.utils.data import DataLoader

from kennel.classifier.__main__ import main
from kennel.classifier.training import run as train


class InMemory:
    """Stands in for the trainer's `load_data`; all batches are decoded once and kept."""

    def __init__(self) -> None:
        self.used = False
        self._load_data: Callable[..., Any] = vars(train)["load_data"]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The trainer's data with lists for loaders."""
        data = self._load_data(*arguments, **named)
        self.used = True
        return dataclasses.replace(data, training=kept(data.training), validation=kept(data.validation))


def kept(batches: Iterable[Any]) -> DataLoader[Any]:
    """The batches of one pass as a loader without processes, copies or collation."""
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]  # a list is a dataset, too


if __name__ == "__main__":
    load_data = InMemory()
    vars(train)["load_data"] = load_data
    status = main()
    if not load_data.used:
        sys.exit("The trainer did not take its data from memory; several GPUs, which it trains on in other processes?")
    sys.exit(status)
