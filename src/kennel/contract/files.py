"""Writing a file so that its readers find the old content or the new, and never a half of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file so that readers see all of it or nothing of it."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, all of it or nothing of it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_private(path: Path, value: Any) -> None:
    """Write JSON for its owner's eyes, all of it or nothing of it; quickly, so that a power cut may lose it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", opener=_open_private) as file:
        json.dump(value, file)
    temporary.replace(path)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a full disk or a power cut shows here, before the old file is replaced
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
