"""PoorWeightInitialization: first weights from which a network cannot learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.rules.base import Rule, is_learning
from kennel.insight.rules.losses import loss_at
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step

_OWN = "variance/relu/"


@dataclass(frozen=True)
class _Parameters:
    activation_inputs_regex: tuple[str, ...] = parameter((".*relu_input",), "names of whole inputs of activations")
    threshold: float = parameter(10.0, "largest ratio of the variances of two layers' activation inputs")
    distribution_range: float = parameter(0.001, "smallest spread of a layer's gradients, 5th to 95th percentile")
    patience: int = parameter(5, "saved losses without a new lowest one after which the loss does not decrease")
    steps: int = parameter(10, "saved steps that are judged, from the first")


class PoorWeightInitialization(Rule):
    """Fires when within the first `steps` saved steps the loss has no new minimum for `patience` of them, and the
    variances of the activations' inputs differ between layers by more than `threshold` times, or the gradients of a
    layer lie within `distribution_range` (5th to 95th percentile; of reductions: minimum to maximum, which is wider).

    The developer guide describes the three checks and not how they combine. Each by itself would fire on sound
    networks: gradients of a large convolution always lie close together.
    Source: SageMaker developer guide, "List of Debugger built-in rules", PoorWeightInitialization.
    """

    Parameters = _Parameters
    needs = "turn on collections losses and relu_input (include_regex .*relu_input) or gradients for the first steps"

    def start(self) -> None:
        """Begin without losses and complaints."""
        self._losses: list[float] = []
        self._complaint: tuple[str, float, float, str] | None = None

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge one of the first steps."""
        if not is_learning(step):
            return
        loss = loss_at(self.trial, step)
        if loss is None or len(self._losses) >= self.p.steps:
            return
        self._losses.append(loss)
        self._complaint = self._complaint or self._variances(step) or self._gradients(step)
        if self._complaint is not None and self._is_flat():
            tensor, value, threshold, what = self._complaint
            advice = "Start from pretrained weights (pretrained=auto), or take an arch with batch normalisation."
            yield self.found(step, tensor, value, threshold, f"The loss does not decrease, and {what}.", advice)

    def _is_flat(self) -> bool:
        best = int(np.argmin(np.nan_to_num(self._losses, nan=np.inf)))
        return bool(len(self._losses) - 1 - best >= self.p.patience)

    def _variances(self, step: Step) -> tuple[str, float, float, str] | None:
        own = self.trial.names(step, regexes=(f"^{_OWN}",))
        names = own or self.trial.names(step, regexes=self.p.activation_inputs_regex)
        found = {name: value for name in names if (value := self.trial.spread(name, step)) is not None}
        if not found:
            return None
        self.datapoints += len(found)
        low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
        ratio = found[high] / max(found[low], float(np.finfo(np.float32).tiny))
        if ratio <= self.p.threshold:
            return None
        low, high = low.removeprefix(_OWN), high.removeprefix(_OWN)
        what = f"the inputs of {high} vary {ratio:.3g} times as much as those of {low} (at most {self.p.threshold:g})"
        return high, ratio, self.p.threshold, what

    def _gradients(self, step: Step) -> tuple[str, float, float, str] | None:
        for name in self.trial.names(step, collections=("gradients",)):
            width = self._width(name, step)
            if width is None:
                continue
            self.datapoints += 1
            if width < self.p.distribution_range:
                what = f"the gradients of {name} lie within {width:.3g} (at least {self.p.distribution_range:g})"
                return name, width, self.p.distribution_range, what
        return None

    def _width(self, name: str, step: Step) -> float | None:
        if name.endswith("bias"):
            return None
        value = self.trial.value(name, step)
        if value is not None:
            low, high = np.percentile(value, (5, 95))
            return float(high - low)
        lowest, highest = self.trial.reduction(name, step, "min"), self.trial.reduction(name, step, "max")
        return None if lowest is None or highest is None else highest - lowest
