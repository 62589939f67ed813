"""Checkpoints: everything a run needs to go on as if it had never been stopped.

Each file carries the SHA-256 of its bytes in its name, and takes its place only when it is whole. A kill at any moment
therefore leaves the checkpoint before it, and damage is noticed before anything is loaded.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from kennel.contract.files import atomic_write

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"checkpoint-(\d{8})-([0-9a-f]{16})\.pt")
_DIGEST_DIGITS = 16


class CheckpointFolder:
    """The newest `keep` checkpoints of a run in a folder."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self._keep = folder, keep

    def save(self, state: Mapping[str, Any], step: int) -> Path:
        """Write a checkpoint, then remove the oldest beyond `keep`.

        Args:
            state: tensors, numbers, strings, and lists and dictionaries of them; nothing else can be read back.
            step: optimizer steps done; orders the files.

        Raises:
            OSError: the disk is full or cannot be written; earlier checkpoints are untouched.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        data = buffer.getbuffer()
        path = self.folder / f"checkpoint-{step:08}-{_digest(data)}.pt"
        with atomic_write(path) as file:
            file.write(data)
        # The new one first: with two files of one step (a run that was resumed there) the older one goes.
        newest = [path, *(old for old in self._newest_first() if old != path)]
        for old in newest[self._keep :]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that is not damaged, on the CPU; None when there is none.

        A damaged file is passed over with a warning that names it and the one that is used instead.
        """
        for left in self.folder.glob(".checkpoint-*.tmp"):  # by a kill in the middle of a write
            left.unlink(missing_ok=True)
        damaged: list[str] = []
        for path in self._newest_first():
            data = path.read_bytes()
            if _digest(data) == path.stem.rpartition("-")[2]:
                if damaged:
                    _LOG.warning("Damaged and passed over: %s. Using %s instead.", ", ".join(damaged), path.name)
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
            damaged.append(path.name)
        if damaged:
            _LOG.warning("Every checkpoint is damaged (%s): starting from the beginning.", ", ".join(damaged))
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self._all(), key=lambda path: (path.name[:19], path.stat().st_mtime_ns), reverse=True)

    def _all(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name))


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]
