"""StalledTrainingRule: a training that saves nothing any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kennel.insight.rules.base import Rule
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step

_ADVICE = (
    "Look at the log's last lines and the data: a channel that does not answer, num_workers too high for the memory, "
    "or a save_interval of the hook that is longer than the threshold."
)


@dataclass(frozen=True)
class _Parameters:
    threshold: int = parameter(1800, "longest time between two saves, in seconds")
    stop_training_on_fire: bool = parameter(False, "stop the training")
    training_job_name_prefix: str = parameter("", "not needed here: the training is the one that is looked at")


class StalledTrainingRule(Rule):
    """Fires when nothing was saved for `threshold` seconds.

    While a training runs, the clock is looked at; afterwards, when each step was written.
    Source: SageMaker developer guide, "List of Debugger built-in rules", StalledTrainingRule.
    """

    Parameters = _Parameters
    needs = "turn on any collection, such as losses"

    def start(self) -> None:
        """Begin without a step."""
        self._last: Step | None = None

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge how long the step has taken to come."""
        last, self._last = self._last, step
        if not step.written_s:
            return
        self.datapoints += 1
        if last is not None and last.written_s:
            yield from self._judge(
                step, step.written_s - last.written_s, f"between steps {last.number} and {step.number}"
            )

    def wait(self, now_s: float) -> Iterator[Finding]:
        """Judge how long nothing has come."""
        last = self._last
        if last is not None and last.written_s:
            yield from self._judge(last, now_s - last.written_s, f"since step {last.number}")

    def _judge(self, step: Step, seconds: float, when: str) -> Iterator[Finding]:
        if seconds > self.p.threshold:
            sentence = f"Nothing was saved for {seconds:.0f} s {when}; {self.p.threshold} s are allowed."
            yield self.found(step, "", seconds, float(self.p.threshold), sentence, _ADVICE)
