"""Losses as rules need them: one number a step, and means of whole validation passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kennel.insight.rules.base import EVAL
from kennel.insight.tensors.trial import Step, Trial


def loss_at(
    trial: Trial, step: Step, *, collections: Iterable[str] = ("losses",), regexes: Iterable[str] = ()
) -> float | None:
    """The mean of the losses saved at a step; None where none is."""
    names = trial.names(step, collections=collections, regexes=regexes)
    values = [mean for name in names if (mean := trial.reduction(name, step, "mean")) is not None]
    return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Pass:
    """A validation, and the training before it."""

    step: Step  # its last
    train: float | None  # mean training loss since the pass before
    validation: float


class Passes:
    """Groups the losses of consecutive validation steps; a pass is over when training goes on, or at the end."""

    def __init__(self, trial: Trial, regexes: tuple[str, ...] = ()) -> None:
        """Take the collection losses, or the tensors that the regular expressions name."""
        self._trial = trial
        self._choice = {"collections": (), "regexes": regexes} if regexes else {}
        self._train: list[float] = []
        self._validation: list[float] = []
        self._last: Step | None = None

    def add(self, step: Step) -> Iterator[Pass]:
        """Take a step; yields the pass that it ends."""
        if step.mode != EVAL:
            yield from self.end()
        loss = loss_at(self._trial, step, **self._choice)
        if loss is None:
            return
        if step.mode == EVAL:
            self._validation.append(loss)
            self._last = step
        else:
            self._train.append(loss)

    def end(self) -> Iterator[Pass]:
        """The pass that was going on, if one was."""
        if self._last is None:
            return
        train = sum(self._train) / len(self._train) if self._train else None
        yield Pass(self._last, train, sum(self._validation) / len(self._validation))
        self._train, self._validation, self._last = [], [], None
