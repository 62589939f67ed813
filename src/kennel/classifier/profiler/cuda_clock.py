"""Times on the GPU by CUDA events, which are read when the loop has waited for the GPU anyway."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

_MEASURED = ("HostToDevice", "Forward", "Backward(post-forward)", "Optimizer")
_RENEW_NS = 10_000_000_000  # an event tells the milliseconds since another one as a float32


class CudaClock:
    """Marks the beginning and end of spans in the GPU's queue and maps them to the CPU's monotonic clock.

    Making it waits for the GPU, once; nothing after that does.
    """

    def __init__(self) -> None:
        self._zero = self._mark()
        torch.cuda.synchronize()
        self._zero_ns = time.monotonic_ns()
        self._begun: dict[str, torch.cuda.Event] = {}
        self._waiting: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @staticmethod
    def _mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def enter(self, phase: str) -> None:
        """The span begins here in the queue; those without work for the GPU are not measured."""
        if phase in _MEASURED:
            self._begun[phase] = self._mark()

    def exit(self, phase: str) -> None:
        """It ends here."""
        if phase in _MEASURED:
            self._waiting.append((phase.partition("(")[0], self._begun.pop(phase), self._mark()))

    def take(self) -> Iterator[tuple[str, int, int]]:
        """Name, beginning and end (time.monotonic_ns) of the spans that the GPU has done; the others stay."""
        done = [one for one in self._waiting if one[2].query()]  # type: ignore[no-untyped-call]
        self._waiting = [one for one in self._waiting if one not in done]
        for name, begun, ended in done:
            yield name, self._ns(begun), self._ns(ended)
        if done and self._ns(done[-1][2]) - self._zero_ns > _RENEW_NS:
            self._zero_ns, self._zero = self._ns(done[-1][2]), done[-1][2]

    def _ns(self, event: torch.cuda.Event) -> int:
        return self._zero_ns + int(self._zero.elapsed_time(event) * 1e6)
