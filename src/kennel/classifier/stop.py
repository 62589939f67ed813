"""StopTrainingJob as a trainer sees it: SIGTERM, then 120 seconds to leave."""

from __future__ import annotations

import signal
from types import FrameType


class StopSignal:
    """True from the moment the platform asks for an end; the loop looks at it after every step."""

    def __init__(self) -> None:
        self.received = False

    def __bool__(self) -> bool:
        return self.received

    def listen(self) -> StopSignal:
        """Take over SIGTERM (what SageMaker and `docker stop` send)."""
        signal.signal(signal.SIGTERM, self._receive)
        return self

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
