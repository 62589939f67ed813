"""Problems that the driver tells in one line, with what to do beside it."""

from __future__ import annotations

from kennel.contract.errors import KennelError


class DriverError(KennelError):
    """A problem on this machine, in the request, or at the other end."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class WaitTimeoutError(DriverError):
    """What was waited for did not come in time; it goes on without the driver."""
