"""SimilarAcrossRuns: two runs that should be the same and are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.errors import InsightError
from kennel.insight.rules.base import Rule
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import TensorChoice, parameter
from kennel.insight.tensors.sources import Source
from kennel.insight.tensors.trial import Step, Trial

_REDUCTIONS = ("min", "max", "mean", "l2")


@dataclass(frozen=True)
class _Parameters(TensorChoice):
    other_trial: str = parameter("", "path or s3:// URI of the other run's tensors")


class SimilarAcrossRuns(Rule):
    """Fires when a tensor differs from the other run's at the same step (numpy.allclose with its defaults).

    Of tensors of which only reductions are saved, the reductions are compared. The developer guide does not say on
    which side the rule fires; the documentation of its first release, tornasole, does: when tensors are different.
    Source: SageMaker developer guide, "List of Debugger built-in rules", SimilarAcrossRuns.
    """

    Parameters = _Parameters
    needs = "give other_trial, a run with the same collections at the same steps"

    def start(self) -> None:
        """The other run is opened when it is needed."""
        self._opened: Trial | None = None

    def look(self, step: Step) -> Iterator[Finding]:
        """Compare the step with the other run's."""
        other = self._other()
        if other is None:
            return
        twins = {(one.mode, one.mode_step): one for one in other.steps}
        twin = twins.get((step.mode, step.mode_step))
        if twin is None:
            return
        theirs = set(other.saved(twin))
        for tensor in self.trial.names(step, collections=self.p.collection_names, regexes=self.p.tensor_regex):
            distance = self._distance(tensor, step, other, twin) if tensor in theirs else None
            if distance is None:
                continue
            self.datapoints += 1
            if distance > 0:
                sentence = f"{tensor} differs from the other run's by up to {distance:.3g}."
                advice = (
                    "Same seed, data, batch_size, processes and precision give the same run; look which of them differ."
                )
                yield self.found(step, tensor, distance, 0.0, sentence, advice)

    def _other(self) -> Trial | None:
        if not self.p.other_trial:
            return None
        if self._opened is None:
            source = Source(self.p.other_trial, self.trial.scratch / "other")
            source.refresh()
            folder = source.folder()
            if folder is None:
                raise InsightError(f"other_trial is '{self.p.other_trial}', where there are no tensors. Correct it.")
            self._opened = Trial(folder, self.trial.scratch)
            self._opened.refresh(final=True)
        return self._opened

    def _distance(self, tensor: str, step: Step, other: Trial, twin: Step) -> float | None:
        """0 where both are close, else the largest difference."""
        mine, theirs = self.trial.value(tensor, step), other.value(tensor, twin)
        if mine is None or theirs is None:
            pairs = [
                (a, b)
                for name in _REDUCTIONS
                if (a := self.trial.reduction(tensor, step, name)) is not None
                and (b := other.reduction(tensor, twin, name)) is not None
            ]
            if not pairs:
                return None
            mine, theirs = (np.array(side) for side in zip(*pairs, strict=True))
        if mine.shape != theirs.shape:
            return float("inf")
        return 0.0 if np.allclose(mine, theirs, equal_nan=True) else float(np.max(np.abs(mine - theirs)))
