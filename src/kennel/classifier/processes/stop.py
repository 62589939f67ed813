"""An end that somebody asks for: the platform by SIGTERM, with 120 seconds to leave; a rule by SIGUSR1."""

from __future__ import annotations

import signal
from types import FrameType


class StopSignal:
    """True from the moment somebody asks for an end; the loop looks at it after every step."""

    def __init__(self) -> None:
        self.received = False
        self.by_rule = False  # and by nobody else

    def __bool__(self) -> bool:
        return self.received

    def listen(self) -> StopSignal:
        """Take over SIGTERM (what SageMaker and `docker stop` send) and SIGUSR1 (what the watching rules send)."""
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGUSR1, self._receive)
        return self

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.by_rule = number == signal.SIGUSR1 and (self.by_rule or not self.received)
        self.received = True
