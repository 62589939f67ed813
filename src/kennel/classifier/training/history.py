"""What the epochs of a run gave, and what the current one has added up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class History:
    """What the epochs gave, and the weights of the best one."""

    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)
    stopped: bool = False  # before its end, because the platform asked for it

    @property
    def best(self) -> dict[str, float]:
        """The best epoch's row; empty before the first epoch has ended."""
        return self.rows[self.best_epoch - 1] if self.rows else {}

    def json_lines(self) -> str:
        """One JSON object an epoch: the file metrics.jsonl."""
        return "".join(json.dumps({"epoch": i, **row}) + "\n" for i, row in enumerate(self.rows, 1))

    def add(self, row: dict[str, float], model: nn.Module) -> None:
        """Take an epoch's row; keep a copy of the weights when no earlier epoch was as good."""
        better = not self.rows or _rank(row) > _rank(self.best)
        self.rows.append(row)
        if better:
            self.best_epoch = len(self.rows)
            self.best_state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _rank(row: dict[str, float]) -> tuple[float, float]:
    return row["validation_accuracy"], -row["validation_loss"]


@dataclass
class Sums:
    """What an epoch has added up so far."""

    images: int = 0
    loss: float = 0.0
    hits: int = 0
    seconds: float = 0.0

    def row(self) -> dict[str, float]:
        """Means over the images seen."""
        return {
            "train_loss": self.loss / self.images,
            "train_accuracy": self.hits / self.images,
            "images_per_second": self.images / self.seconds,
        }
