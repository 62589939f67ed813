"""A line that moves, for people at a terminal; logs and pipes never see it."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 24
_EVERY_S = 0.2


class Progress:
    """Shows how far an epoch is, on stderr, at most five times a second."""

    def __init__(self, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self._stream = stream if stream.isatty() else None
        self._shown = 0.0

    def show(self, epoch: str, batch: int, batches: int, loss: float, images_per_second: float) -> None:
        """Redraw the line if it is time; `batch` counts from 1."""
        now = time.monotonic()
        if self._stream is None or (now - self._shown < _EVERY_S and batch < batches):
            return
        self._shown = now
        done = "█" * (_WIDTH * batch // batches)
        text = f"epoch {epoch} {done:░<{_WIDTH}} {batch}/{batches} loss {loss:.3f} {images_per_second:.0f} images/s"
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()

    def clear(self) -> None:
        """Leave the terminal as if no line had been there."""
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
