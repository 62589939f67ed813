"""How good a network is: loss, accuracy, and per class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kennel.classifier.data.loader import Batch
from kennel.classifier.processes.distributed import ALONE, World


@dataclass(frozen=True)
class Evaluation:
    """Predictions for a whole channel, in its order."""

    probabilities: torch.Tensor  # float32 (N, classes)
    targets: torch.Tensor  # int64 (N,)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, natural logarithm."""
        own = self.probabilities.gather(1, self.targets[:, None]).clamp_min(torch.finfo(torch.float32).tiny)
        return float(-own.log().mean())

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable class is the true one."""
        return float((self.probabilities.argmax(1) == self.targets).double().mean())

    def top_accuracy(self, k: int) -> float:
        """Share of images whose true class is among the k most probable ones."""
        best = self.probabilities.topk(min(k, self.probabilities.shape[1])).indices
        return float((best == self.targets[:, None]).any(1).double().mean())

    def confusion(self) -> torch.Tensor:
        """int64 (classes, classes): rows are true classes, columns predicted ones."""
        classes = self.probabilities.shape[1]
        flat = self.targets * classes + self.probabilities.argmax(1)
        return torch.bincount(flat, minlength=classes * classes).view(classes, classes)

    def per_class(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Precision, recall, F1 and image count of every class; 0 where a quotient has no meaning."""
        matrix = self.confusion().double()
        hits, predicted, true = matrix.diag(), matrix.sum(0), matrix.sum(1)
        precision = torch.where(predicted > 0, hits / predicted.clamp_min(1), 0.0)
        recall = torch.where(true > 0, hits / true.clamp_min(1), 0.0)
        f1 = torch.where(precision + recall > 0, 2 * precision * recall / (precision + recall).clamp_min(1e-12), 0.0)
        return [
            {"class": name, "images": int(true[i]), "precision": float(precision[i]), "recall": float(recall[i]),
             "f1": float(f1[i])}
            for i, name in enumerate(classes)
        ]  # fmt: skip

    def macro(self) -> dict[str, float]:
        """Unweighted means of precision, recall and F1 over the classes that have images here.

        Macro recall is balanced accuracy. Macro F1 is the mean of the classes' F1, not the F1 of the mean precision
        and recall: Opitz and Burst, "Macro F1 and Macro F1", 2019 (arXiv:1911.03347), say why.
        """
        present = [row for row in self.per_class([""] * self.probabilities.shape[1]) if row["images"]]
        return {name: sum(row[name] for row in present) / len(present) for name in ("precision", "recall", "f1")}


@torch.inference_mode()
def evaluate(
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[Batch],
    *,
    watch: nn.Module | None = None,
    world: World = ALONE,
) -> Evaluation:
    """Run a network over batches.

    Args:
        logits_of: from a batch of the loader to logits (N, classes), on any device.
        batches: images and targets; of several processes each has every n-th batch, see `evaluation_loader`.
        watch: a loss module to call on each batch, for the hooks that may be on it.
        world: the processes that share the batches; each gets the result of all.
    """
    found: list[Batch] = []
    for images, targets in batches:
        logits = logits_of(images).float()
        if watch is not None:
            watch(logits, targets.to(logits.device))
        found.append((torch.softmax(logits, dim=1).cpu(), targets))
    shares = world.gather(found)
    in_order = [share[turn] for turn in range(max(map(len, shares))) for share in shares if turn < len(share)]
    return Evaluation(torch.cat([one for one, _ in in_order]), torch.cat([wanted for _, wanted in in_order]))
