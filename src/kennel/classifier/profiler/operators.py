"""Operators of a few steps by torch.profiler: a table with times, shapes and memory, and a trace to look at."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from kennel.classifier.data.compiler import without_compiler
from kennel.classifier.profiler.settings import Window
from kennel.contract.files import write_text

_LOG = logging.getLogger(__name__)


class Operators:
    """Records the steps of a window; what it found is written when the training is over, which takes a second.

    Args:
        window: which steps.
        folder: the profile's.
        writer: process and node, `905-algo-1`.
        device: where the network is.
    """

    def __init__(self, window: Window, folder: Path, writer: str, device: torch.device) -> None:
        self._window, self._folder, self._writer, self._device = window, folder, writer, device
        self._profile: profile | None = None
        self._first_step = self._steps = 0
        self._began_ns = self._ended_ns = 0
        self._done = False

    def begin_step(self, number: int) -> None:
        """Start the window if this is its first step."""
        if self._done or self._profile is not None:
            return
        if number >= self._window.first_step and time.time() >= self._window.not_before_s:
            self._start(number)

    def end_step(self, number: int) -> None:
        """End the window if this was its last step."""
        if self._profile is not None and number + 1 >= self._first_step + self._window.steps:
            self.stop(number + 1)

    def _start(self, number: int) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # below that torch's profiler tells on stderr that it starts
        on_gpu = self._device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        self._profile = profile(activities=activities, record_shapes=True, profile_memory=True, with_flops=True)
        self._first_step, self._began_ns = number, time.monotonic_ns()
        with without_compiler():  # it asks for a setting of it
            self._profile.start()

    def stop(self, number: int) -> None:
        """The window is over, or all steps are; `number` would be the next one's."""
        if self._profile is not None and not self._done:
            self._ended_ns = time.monotonic_ns()
            self._profile.stop()
            self._steps = number - self._first_step
        self._done = True

    def write(self, about: Mapping[str, Any]) -> None:
        """Leave table and trace; nothing where no step was recorded, a warning where the disk is full."""
        if self._profile is None or self._steps == 0:
            return
        hour = time.strftime("%Y%m%d%H", time.gmtime())
        folder = self._folder / f"framework/pytorch/detailed_profiling/{hour}/{self._first_step:09}"
        document = {
            "first_step": self._first_step, "steps": self._steps, **about,
            "wall_us": (self._ended_ns - self._began_ns) // 1000, "operators": rows(self._profile),
        }  # fmt: skip
        trace = folder / f"{self._writer}_trace.json.gz"
        try:
            write_text(folder / f"{self._writer}_operators.json", json.dumps(document, separators=(",", ":")) + "\n")
            self._profile.export_chrome_trace(str(trace))
        except (OSError, RuntimeError) as error:  # kineto's own error for a file that it cannot write
            _LOG.warning("The operators of %d steps cannot be written to %s: %s", self._steps, folder, error)
            with contextlib.suppress(OSError):
                trace.unlink(missing_ok=True)
        self._profile = None


def rows(recorded: profile) -> list[dict[str, Any]]:
    """One for each operator and shapes of inputs, the most expensive first; times are sums over all its calls."""
    found = [
        {
            "name": event.key,
            "calls": event.count,
            "shapes": [list(shape) for shape in event.input_shapes or []],
            "self_cpu_us": event.self_cpu_time_total,
            "cpu_us": event.cpu_time_total,
            "self_device_us": event.self_device_time_total,
            "device_us": event.device_time_total,
            "self_cpu_memory_bytes": event.self_cpu_memory_usage,
            "self_device_memory_bytes": event.self_device_memory_usage,
            "flops": event.flops,
        }
        for event in recorded.key_averages(group_by_input_shape=True)
    ]
    return sorted(found, key=lambda row: row["self_device_us"] + row["self_cpu_us"], reverse=True)
