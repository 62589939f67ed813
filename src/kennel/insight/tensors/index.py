"""Index files of smdebug's layout: which tensors a worker saved at a step, and where their records are.

`index/<step // 1000>/<step>_<worker>.json` holds {"meta": {mode, mode_step, event_file_name}, "tensor_payload":
[{tensorname, start_idx, length}], "shape_payload": [{tensorname}]}. A reduction is a tensor of its own, named
`smdebug/reductions/[abs_]<reduction>/<tensor>`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

_NAME = re.compile(r"(\d+)_(.+)\.json")
_REDUCTIONS = "smdebug/reductions/"
_MODES = ("TRAIN", "EVAL", "PREDICT", "GLOBAL")
# What damaged JSON raises when it is read, or is not of the shape that it should have.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, re.error)
WHOLE = ""  # the kind of a tensor that is saved as it is; the others are reductions


class IndexFileError(ValueError):
    """What is wrong with an index file."""


@dataclass(frozen=True)
class Record:
    """A stretch of an event file, in bytes."""

    file: Path
    saved_as: str
    start: int
    length: int


@dataclass(frozen=True)
class IndexFile:
    """What one worker saved at one step."""

    file: Path
    worker: str
    mode: str
    mode_step: int
    written_s: float  # in seconds since 1970
    event_file: Path | None  # None where only shapes were saved
    tensors: dict[str, dict[str, Record]] = field(
        default_factory=dict
    )  # by tensor, then by kind: WHOLE, mean, abs_mean


def index_files(folder: Path) -> Iterator[tuple[int, str, Path]]:
    """Step, worker and path of each index file of a trial, in no order.

    Raises:
        OSError: the folder cannot be listed.
    """
    try:
        groups = [entry.path for entry in os.scandir(folder / "index") if entry.is_dir()]
    except FileNotFoundError:  # nothing was saved yet
        return
    for group in groups:
        for entry in os.scandir(group):
            found = _NAME.fullmatch(entry.name)
            if found:
                yield int(found[1]), found[2], Path(entry.path)


def read_index(folder: Path, file: Path, worker: str) -> IndexFile:
    """Read one.

    Raises:
        IndexFileError: it is cut off or damaged.
        OSError: it cannot be read.
    """
    written_s = file.stat().st_mtime
    try:
        content = json.loads(file.read_bytes())
        meta = content["meta"]
        mode, mode_step = meta["mode"].strip(), int(meta["mode_step"])
        payload = content.get("tensor_payload") or []
        event_file = _below(folder, meta["event_file_name"]) if payload else None
        records = [_record(event_file, entry) for entry in payload if event_file]
        shapes = [str(entry["tensorname"]) for entry in content.get("shape_payload") or []]
    except MALFORMED as error:
        raise IndexFileError(f"{type(error).__name__}: {error}") from error
    if mode not in _MODES or mode_step < 0 or not records + shapes:
        raise IndexFileError(f"mode {mode}, step {mode_step} of it, {len(records)} tensors")
    return IndexFile(file, worker, mode, mode_step, written_s, event_file, _by_tensor(records, shapes))


def _below(folder: Path, name: Any) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise IndexFileError(f"the event file {name} is outside the folder")
    return folder / path


def _record(file: Path, entry: Any) -> Record:
    name, start, length = entry["tensorname"], entry["start_idx"], entry["length"]
    if not isinstance(name, str) or not isinstance(start, int) or not isinstance(length, int) or min(start, length) < 0:
        raise IndexFileError(f"a record of {name} at {start}, {length} bytes long")
    return Record(file, name, start, length)


def _by_tensor(records: list[Record], shapes: list[str]) -> dict[str, dict[str, Record]]:
    tensors: dict[str, dict[str, Record]] = {name: {} for name in shapes}
    for record in records:
        tensor, kind = _reduced(record.saved_as)
        tensors.setdefault(tensor, {})[kind] = record
    return tensors


def _reduced(saved_as: str) -> tuple[str, str]:
    """The tensor, and what of it was saved."""
    _, prefix, rest = saved_as.partition(_REDUCTIONS)
    kind, slash, tensor = rest.partition("/")
    return (tensor, kind) if prefix and slash else (saved_as, WHOLE)
