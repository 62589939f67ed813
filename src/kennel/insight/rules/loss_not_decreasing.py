"""LossNotDecreasing: a loss that stays or rises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from kennel.insight.rules.base import Rule
from kennel.insight.rules.losses import loss_at
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters:
    collection_names: tuple[str, ...] = parameter((), "collections to look at")
    tensor_regex: tuple[str, ...] = parameter((), "regular expressions of tensor names")
    use_losses_collection: bool = parameter(True, "look at the collection losses, too")
    num_steps: int = parameter(10, "steps between two comparisons, at least")
    diff_percent: float = parameter(0.1, "smallest fall between two comparisons, in per cent")
    increase_threshold_percent: float = parameter(5.0, "largest rise, in per cent")
    mode: str = parameter("", "TRAIN, EVAL or GLOBAL", documented="EVAL, else TRAIN, else GLOBAL")
    least_losses: int = parameter(
        1, "saved losses whose mean is compared; single ones, as AWS takes, are mostly noise", own=True
    )


@dataclass
class _Window:
    """Losses since the last comparison."""

    losses: list[float] = field(default_factory=list)
    first_step: int = 0

    @property
    def mean(self) -> float:
        return sum(self.losses) / len(self.losses)


class LossNotDecreasing(Rule):
    """Fires when a loss has fallen by less than `diff_percent` since `num_steps` steps ago, or has risen by more than
    `increase_threshold_percent`.

    With `least_losses` above 1, means of so many saved losses are compared. Where `mode` is not given, training losses
    are judged (AWS's order is EVAL, TRAIN, GLOBAL; single validation batches of one pass are no course of a loss).
    Source: SageMaker developer guide, "List of Debugger built-in rules", LossNotDecreasing.
    """

    Parameters = _Parameters
    needs = "turn on collection losses, or lower its save_interval: it takes two windows of num_steps steps"

    def start(self) -> None:
        """Begin with an empty window."""
        self._now = _Window()
        self._before: _Window | None = None

    def look(self, step: Step) -> Iterator[Finding]:
        """Take the step's loss, and compare when it is time."""
        if step.mode not in ((self.p.mode.upper(),) if self.p.mode else ("TRAIN", "GLOBAL")):
            return
        collections = [*self.p.collection_names, *(["losses"] if self.p.use_losses_collection else [])]
        loss = loss_at(self.trial, step, collections=collections, regexes=self.p.tensor_regex)
        if loss is None or not math.isfinite(loss):
            return
        if not self._now.losses:
            self._now.first_step = step.mode_step
        self._now.losses.append(loss)
        reached = self._before is None or step.mode_step - self._before.first_step >= self.p.num_steps
        if reached and len(self._now.losses) >= self.p.least_losses:
            if self._before is not None:
                yield from self._compare(step, self._before, self._now)
            self._now, self._before = _Window(), self._now

    def _compare(self, step: Step, before: _Window, now: _Window) -> Iterator[Finding]:
        self.datapoints += 1
        fall = 100 * (before.mean - now.mean) / (abs(before.mean) or 1.0)
        course = f"{before.mean:.4g} from step {before.first_step}, {now.mean:.4g} from step {now.first_step}"
        if -fall > self.p.increase_threshold_percent:
            advice = "Lower lr or raise warmup_epochs; set clip_norm=1 where single steps go astray."
            yield self.found(
                step,
                "",
                -fall,
                self.p.increase_threshold_percent,
                f"The loss has risen by {-fall:.1f} %: {course}.",
                advice,
            )
        elif fall < self.p.diff_percent:
            advice = (
                "At the beginning of a training change lr; at its end fewer epochs or patience=3 spare the rest, and "
                "schedule=cosine lets the loss fall a little further."
            )
            yield self.found(
                step, "", fall, self.p.diff_percent, f"The loss is not decreasing ({-fall:+.2f} %): {course}.", advice
            )
