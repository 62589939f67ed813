"""CheckInputImages: images that were not normalised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kennel.insight.rules.base import Rule, is_learning
from kennel.insight.tensors.events import Array
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import parameter
from kennel.insight.tensors.trial import Step


@dataclass(frozen=True)
class _Parameters:
    threshold_mean: float = parameter(0.2, "largest distance of a colour channel's mean from zero")
    threshold_samples: int = parameter(500, "images that are seen before anything is judged")
    regex: tuple[str, ...] = parameter(
        (r"^input_image/mean$", r"^(?!.*[Ll]oss)[A-Z]\w*_input_0$"),
        "the input's name: what Kennel's hook saves, else the input of the outermost module",
        documented=".*hybridsequential0_input_0, a name of MXNet",
    )
    channel: int = parameter(1, "the axis of colours in (batch, channel, height, width)")


class CheckInputImages(Rule):
    """Fires when after `threshold_samples` images the mean of a colour channel is further from zero than
    `threshold_mean`.

    Source: SageMaker developer guide, "List of Debugger built-in rules", CheckInputImages. Its default name is MXNet's
    and matches nothing here; PyTorch's network is called by its class, such as ResNet_input_0.
    """

    Parameters = _Parameters
    needs = "let more images pass, or turn on a collection with include_regex ^[A-Z]\\w*_input_0$"

    def start(self) -> None:
        """Begin without images."""
        self._sum, self._images = np.zeros(1), 0

    def look(self, step: Step) -> Iterator[Finding]:
        """Add the step's images to the means, and judge them once there are enough."""
        if not is_learning(step):
            return
        means = self._means(step)
        if means is None:
            return
        self._sum, self._images = self._sum + means.sum(axis=0), self._images + len(means)
        if self._images < self.p.threshold_samples:
            return
        self.datapoints += 1
        overall = self._sum / self._images
        worst = int(np.abs(overall).argmax())
        if abs(overall[worst]) > self.p.threshold_mean:
            sentence = (
                f"Over {self._images} images the mean of colour channel {worst} is {overall[worst]:.3g}, not about 0."
            )
            advice = (
                "Subtract the mean and divide by the standard deviation before the network. Kennel's trainer does: "
                "with it, the photos are unlike ImageNet's; look at some, and train all layers (train_layers=all)."
            )
            yield self.found(step, "input_image", float(overall[worst]), self.p.threshold_mean, sentence, advice)

    def lacking(self) -> str:
        """How many images are missing, where there are some."""
        seen, wanted, missing = self._images, self.p.threshold_samples, super().lacking()
        return f"not enough data: {seen} images of {wanted} (threshold_samples)" if missing and seen else missing

    def _means(self, step: Step) -> Array | None:
        """Mean of each image's channels, (images, channels)."""
        for name in self.trial.names(step, regexes=self.p.regex):
            value = self.trial.value(name, step)
            if value is not None and value.ndim == 2 and name.startswith("input_image/"):
                return value
            if value is not None and value.ndim == 4:
                axes = tuple(axis for axis in (1, 2, 3) if axis != self.p.channel)
                return np.asarray(value.astype(np.float64).mean(axis=axes))
        return None
