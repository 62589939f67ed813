"""HOME/emulator.log: one JSON line a request, and the tracebacks of what should not have happened."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

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


def open_log(file: Path) -> None:
    """Send what this package and uvicorn log to the file (mode 600)."""
    file.touch(mode=0o600)
    handler = RotatingFileHandler(file, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(_JsonLines())
    for name, level in (("kennel", logging.INFO), ("uvicorn", logging.WARNING)):
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
