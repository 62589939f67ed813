"""What every rule is: it looks at each step once, in order, and yields findings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import NoParameters, fill
from kennel.insight.tensors.trial import Step, Trial

EVAL, TRAIN = "EVAL", "TRAIN"


class Rule(ABC):
    """A check over the tensors of a run. Subclasses are named as AWS names them."""

    Parameters: ClassVar[type[Any]] = NoParameters
    needs: ClassVar[str]  # what to turn on where there is nothing to judge

    def __init__(self, trial: Trial, given: Mapping[str, str] | None = None) -> None:
        """Prepare to judge a trial.

        Raises:
            InsightError: parameters that are unknown or wrong.
        """
        self.trial = trial
        self.p: Any = fill(self.name, self.Parameters, given or {})
        self.datapoints = 0  # values judged
        self.start()

    def start(self) -> None:  # noqa: B027 - most rules remember nothing
        """Make what the rule remembers from step to step."""

    @property
    def name(self) -> str:
        """The class's name."""
        return type(self).__name__

    @property
    def parameters(self) -> dict[str, Any]:
        """Values of all parameters."""
        return asdict(self.p)

    @abstractmethod
    def look(self, step: Step) -> Iterator[Finding]:
        """Judge a step that is complete."""

    def wait(self, now_s: float) -> Iterator[Finding]:  # noqa: ARG002 - the shape of the method
        """Judge that nothing was saved until now, in seconds since 1970; only while a training runs."""
        return iter(())

    def finish(self) -> Iterator[Finding]:
        """Judge what only the end of a training shows."""
        return iter(())

    def lacking(self) -> str:
        """Why the rule could judge nothing; empty when it could."""
        return "" if self.datapoints else f"not enough data: {self.needs}"

    def found(  # noqa: PLR0917 - in the order of a finding
        self, step: Step, tensor: str, value: float, threshold: float, sentence: str, advice: str
    ) -> Finding:
        """A finding of this rule."""
        return Finding(self.name, step.mode_step, step.mode, tensor, value, threshold, sentence, advice)


def is_learning(step: Step) -> bool:
    """Whether weights change in the step's mode."""
    return step.mode != EVAL
