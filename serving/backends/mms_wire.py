"""How a request travels from the front through multi-model-server to a worker, and what the two tell each other.

The whole request is one opaque body: MMS parses query strings, JSON and forms by rules of its own, and drops headers
above 8 KiB. Standard library only: the front has no torch.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from serving.backend import Call

HANDLER = "serving.backends.mms_worker:handle"  # what MMS calls in its workers
PROBE = b""  # asks a worker to warm up instead of to answer
STATUS_HEADER = "X-Kennel-Status"  # only a worker of ours sends it; an answer without it is MMS's own
FAULT = "fault"  # its value when the body is the handler's traceback
TASK_FILE = "task.json"  # in a model's private folder: what its workers load
REPORT_FILE = "report.json"  # beside it: how that went
_LENGTH = struct.Struct("!I")


def pack(call: Call) -> bytes:
    """One request as one body."""
    head = json.dumps({"headers": dict(call.headers), "query": dict(call.query)}).encode()
    return b"".join((_LENGTH.pack(len(head)), head, call.body))


def unpack(data: bytes) -> Call:
    """The request that `pack` was given."""
    [length] = _LENGTH.unpack_from(data)
    head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
    return Call(bytes(data[_LENGTH.size + length :]), head["headers"], head["query"])


def read_report(folder: Path) -> dict[str, Any] | None:
    """What the workers of a model wrote about loading it; None as long as they have not."""
    try:
        text = (folder / REPORT_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    report: dict[str, Any] = json.loads(text)
    return report
