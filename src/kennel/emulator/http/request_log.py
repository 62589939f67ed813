"""HOME/emulator.log: one JSON line a request, and the tracebacks of what should not have happened."""

from __future__ import annotations

import contextlib
import json
import logging
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kennel.emulator.state.line_files import LineFile

_MAX_BYTES = 10 * 1024 * 1024  # then the file is set aside, and one such is kept
_log = logging.getLogger("kennel.emulator")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One object a line, whoever logged it."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": record.getMessage(), **fields}
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class _Lines(logging.Handler):
    """Appends whole lines. One for which there is no room is dropped: nobody can be told of it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._path = file
        self._file: LineFile | None = LineFile(file, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        line = (self.format(record) + "\n").encode("utf-8", "replace")
        with contextlib.suppress(OSError):
            if self._file is None or self._file.size + len(line) > _MAX_BYTES:
                self._set_aside()
            assert self._file is not None  # noqa: S101 - it was opened above
            self._file.append(line)

    def _set_aside(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
            self._path.replace(f"{self._path}.1")
        self._file = LineFile(self._path, 0o600)


def open_log(file: Path) -> None:
    """Send what this package, asyncio and uvicorn log to the file (mode 600)."""
    handler = _Lines(file)
    handler.setFormatter(_JsonLines())
    for name, level in (("kennel", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False


def event(name: str, **fields: Any) -> None:
    """Write one line."""
    _log.info(name, extra={"fields": fields})


def fault(name: str, error: BaseException, **fields: Any) -> None:
    """Write one line with a traceback."""
    _log.error(name, exc_info=error, extra={"fields": {**fields, "error": repr(error)}})
