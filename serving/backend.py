"""What stands behind the server's routes: something that loads models by name and answers for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

RECEIVED_HEADER = "X-Kennel-Received-Ns"  # when the front took the request, on the machine's monotonic clock


@dataclass(frozen=True)
class Call:
    """One request, its body complete."""

    body: bytes
    headers: Mapping[str, str]  # names are compared without case
    query: Mapping[str, str] = field(default_factory=dict)
    light: bool = False  # one image, nothing explained: it delays nobody who is computed beside it


@dataclass(frozen=True)
class Reply:
    """What the handler says to it."""

    body: bytes
    status: int
    content_type: str


class Backend(Protocol):
    """Runs the handler. All methods belong to the event loop's thread."""

    async def start(self) -> None:
        """Make ready for models. Raises KennelError when that cannot be done."""

    async def load(self, name: str, folder: Path) -> Mapping[str, Any]:
        """Load an artifact and try it; what it is, for the log. Raises KennelError when it cannot be served."""

    async def unload(self, name: str) -> None:
        """Forget a model that nobody uses."""

    async def answer(self, name: str, call: Call) -> Reply:
        """Let a loaded model answer. When cancelled, it returns only after the work has stopped or was never begun."""

    def problem(self) -> str | None:
        """Why new requests would wait in vain, in words; None while all is well."""

    def failure(self) -> Exception | None:
        """Why the server must end; None while it need not."""

    def close(self) -> None:
        """End at once and leave nothing behind."""
