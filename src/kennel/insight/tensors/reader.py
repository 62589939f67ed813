"""A folder of tensors in smdebug's layout, read without smdebug: nothing waits, and what cannot be read is noted.

`collections/000000000/<worker>_collections.json`, the index (`index.py`), and
`events/<step>/<step>_<worker>.tfevents` with the records themselves (`events.py`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kennel.insight.errors import InsightError
from kennel.insight.tensors.events import Array, RecordError, tensor_of
from kennel.insight.tensors.index import (
    MALFORMED,
    WHOLE,
    IndexFile,
    IndexFileError,
    Record,
    index_files,
    read_index,
)


@dataclass(frozen=True)
class Collection:
    """Tensors that belong together."""

    regexes: tuple[str, ...]
    names: frozenset[str]


@dataclass
class SavedStep:
    """What the workers saved at a step."""

    number: int  # over all modes
    by_worker: dict[str, IndexFile] = field(default_factory=dict)

    @property
    def first(self) -> IndexFile:
        """The first worker's, by its name."""
        return self.by_worker[min(self.by_worker)]

    @property
    def written_s(self) -> float:
        """When the last of them was written, in seconds since 1970."""
        return max(index.written_s for index in self.by_worker.values())

    def names(self) -> list[str]:
        """The tensors, sorted; of some there may be reductions or a shape only."""
        return sorted({name for index in self.by_worker.values() for name in index.tensors})

    def records(self, name: str) -> Mapping[str, Record]:
        """The tensor's records by their kind, of the first worker that saved it."""
        having = [worker for worker, index in self.by_worker.items() if name in index.tensors]
        return self.by_worker[min(having)].tensors[name] if having else {}

    def is_whole(self, workers: int) -> bool:
        """Whether all workers have saved it, and their event files are there."""
        files = [index.event_file for index in self.by_worker.values()]
        return len(files) >= workers and all(file is None or file.is_file() for file in files)


class TensorReader:
    """Steps and tensors of a folder; `refresh` looks for more of them."""

    def __init__(self, folder: Path) -> None:
        """Read the collections of all workers.

        Raises:
            InsightError: there are none, fewer than there are workers, or they cannot be read.
        """
        self.folder = folder
        self.steps: dict[int, SavedStep] = {}
        self._notes: dict[str, None] = {}  # a set in the order of its coming
        self._unread: dict[Path, tuple[tuple[int, int], str]] = {}  # index files: what they were like, and a note
        self.collections, self.workers = self._collections()

    @property
    def notes(self) -> list[str]:
        """What could not be read."""
        return [*(note for _, note in self._unread.values()), *self._notes]

    def refresh(self) -> None:
        """Read index files that are new, and those again that could not be read and have changed."""
        try:
            found = sorted(index_files(self.folder))
        except OSError as error:  # a folder that went away between two looks
            self._notes[f"{self.folder}: {error}"] = None
            return
        for number, worker, file in found:
            known = self.steps.get(number)
            if not known or worker not in known.by_worker:
                self._read_index(number, worker, file)

    def _read_index(self, number: int, worker: str, file: Path) -> None:
        state = _state(file)
        if file in self._unread and self._unread[file][0] == state:
            return
        self._unread.pop(file, None)
        try:
            index = read_index(self.folder, file, worker)
        except FileNotFoundError:
            return
        except (IndexFileError, OSError) as error:
            self._unread[file] = (state, f"The index of step {number} cannot be read ({error}); the step is left out.")
            return
        self.steps.setdefault(number, SavedStep(number)).by_worker[worker] = index

    def ready(self, *, final: bool) -> list[int]:
        """Steps that are complete, in their order: all workers have saved them, or will not do so any more.

        Args:
            final: nothing more will be written.
        """
        numbers = sorted(self.steps)
        if final:
            return numbers
        while numbers and not self.steps[numbers[-1]].is_whole(self.workers):
            numbers.pop()
        return numbers  # what is older than a whole step will not become whole

    def array(self, name: str, number: int, kind: str = WHOLE) -> Array | None:
        """A tensor of a step, or a reduction of it such as abs_mean; None where it was not saved or cannot be read."""
        record = self.steps[number].records(name).get(kind)
        if record is None:
            return None
        try:
            return tensor_of(_bytes_of(record), record.saved_as)
        except FileNotFoundError:
            self._notes[f"{record.file} is not there; its tensors of step {number} are left out."] = None
        except (RecordError, OSError, MemoryError) as error:
            self.note(name, number, error)
        return None

    def note(self, name: str, number: int, error: Exception) -> None:
        """Remember that a tensor cannot be read."""
        self._notes[f"{name} of step {number} cannot be read: {error}."] = None

    def _collections(self) -> tuple[dict[str, Collection], int]:
        files = sorted((self.folder / "collections").glob("*/*_collections.json"))
        if not files:
            raise InsightError(f"{self.folder} has no collections file yet, so no tensors were saved there.")
        merged: dict[str, Collection] = {}
        workers = 1
        for file in files:
            try:
                content = json.loads(file.read_bytes())
                workers = max(workers, int(content["_meta"]["num_workers"]))
                _merge(merged, content["collections"])
            except (*MALFORMED, OSError) as error:
                raise InsightError(
                    f"{file} cannot be read ({error!r}). Run the job again, or fetch it again."
                ) from error
        if len(files) < workers:
            raise InsightError(f"{self.folder} has collections of {len(files)} workers of {workers}.")
        return merged, workers


def _merge(merged: dict[str, Collection], content: Any) -> None:
    """Add what a worker's file has.

    Raises:
        re.error: a regular expression that is none; others of MALFORMED: something else that is wrong.
    """
    for name, entry in content.items():
        regexes, names = tuple(entry.get("include_regex") or ()), frozenset(entry.get("tensor_names") or ())
        for regex in regexes:
            re.compile(regex)
        known = merged.get(name, Collection((), frozenset()))
        merged[name] = Collection(tuple(dict.fromkeys(known.regexes + regexes)), known.names | names)


def _bytes_of(record: Record) -> bytes:
    """What the file has of a record.

    Raises:
        OSError: it cannot be read.
    """
    if not record.file.is_file():  # a pipe would be waited for
        raise FileNotFoundError(record.file)
    with record.file.open("rb", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size - record.start  # a damaged index may ask for more than memory has
        if left <= 0:
            return b""
        file.seek(record.start)
        return file.read(min(record.length, left))


def _state(file: Path) -> tuple[int, int]:
    """What changes with a file's content."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
