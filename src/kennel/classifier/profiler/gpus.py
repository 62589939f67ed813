"""What the GPUs do, through NVIDIA's management library; nothing where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from kennel.classifier.profiler.system import Value

_LOG = logging.getLogger(__name__)


class Gpus:
    """All GPUs that the driver shows to this process."""

    def __init__(self) -> None:
        """Load the library; `count` stays 0 where that, the driver or a GPU is missing."""
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml

            pynvml.nvmlInit()
        except ImportError:
            return
        except pynvml.NVMLError as error:
            _LOG.debug("No GPU metrics: %s", error)
            return
        self._nvml = pynvml
        self._handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._handles)

    def values(self) -> Iterator[Value]:
        """Utilisation, memory and power of each; a value that a GPU does not tell is left out."""
        for index, handle in enumerate(self._handles):
            for dimension, ask in (
                ("GPUUtilization", self._utilisation),
                ("GPUMemoryUtilization", self._memory),
                ("GPUPowerWatts", self._power),
            ):
                value = self._ask(ask, handle)
                if value is not None:
                    yield Value("gpu", f"gpu{index}", dimension, value)

    def _ask(self, ask: Callable[[Any], float], handle: Any) -> float | None:
        try:
            return ask(handle)
        except self._nvml.NVMLError:
            return None

    def _utilisation(self, handle: Any) -> float:
        """Percent of the time of the driver's last sample in which a kernel ran."""
        return float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    def _memory(self, handle: Any) -> float:
        """Percent that is taken, by whomever."""
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return float(100 * memory.used / memory.total)

    def _power(self, handle: Any) -> float:
        """Watts; the library counts milliwatts."""
        return float(self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000)

    def close(self) -> None:
        """Let go of the driver."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
