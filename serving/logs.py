"""The log: one JSON object a line on stdout, where `docker logs` and CloudWatch pick it up."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_log = logging.getLogger("serving")


class JsonLines(logging.Formatter):
    """Time, level, event, the event's fields, and the traceback of an error, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure() -> None:
    """Send all logging and all warnings of this process to stdout as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its start and stop lines say less than ours
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a damaged form is its sender's to read about


def event(name: str, **fields: Any) -> None:
    """Log what happened."""
    _log.info(name, extra={"fields": fields})


def relay(line: Mapping[str, Any]) -> None:
    """Log a line that another process of ours wrote in this format, or in part of it."""
    fields = {name: value for name, value in line.items() if name not in ("time", "level", "event")}
    level = logging.getLevelNamesMapping().get(str(line.get("level")).upper(), logging.INFO)
    _log.log(level, str(line.get("event")), extra={"fields": fields})


def fault(name: str, error: BaseException, **fields: Any) -> None:
    """Log a fault of our own with its traceback, which no client gets to see."""
    _log.error(name, exc_info=error, extra={"fields": fields})
