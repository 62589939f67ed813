"""Keeps a place of the storage like a folder that a program writes: new and changed files go up, removed ones go.

Source: SageMaker developer guide, "Checkpoints in Amazon SageMaker AI".
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kennel.storage import StorageError, Uri, fetch, storage_of

INTERVAL_S = 3.0
_SETTLED_S = 1.0  # a file that changes now is taken a round later
_Known = dict[str, list[int]]  # by name: size in bytes, time of change in ns


class FolderSync:
    """One folder and its place. What was moved is kept in a file, so that a restart neither forgets nor repeats it."""

    def __init__(
        self, folder: Path, uri: Uri, known_file: Path, warn: Callable[[str], None], *, unfinished: str | None = None
    ) -> None:
        """`warn` is told what could not be moved now and will be tried again.

        Files that end in `unfinished` will be renamed by the program; one that it left so is taken in the last round.
        """
        self._unfinished = unfinished
        self._folder = folder
        self._real = folder.parent.resolve() / folder.name
        self._uri = uri
        self._storage = storage_of(uri)
        self._known_file = known_file
        self._warn = warn
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def restore(self) -> None:
        """Bring what is there into the folder, as before a job starts.

        Raises:
            StorageError: it cannot be read.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._uri.scheme == "file" and not self._uri.file.exists():
            return
        for item in self._storage.list(self._uri):
            fetch(item, self._folder)
        self._keep(self._scan())

    def start(self) -> None:
        """Begin to keep it up to date."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            try:
                self.step(settled_s=_SETTLED_S)
            except (StorageError, OSError) as error:
                self._warn(f"{self._folder.name} is not up to date in '{self._uri}', and will be tried again: {error}")

    def leave(self) -> None:
        """Stop without a last round."""
        self._ended.set()
        if self._thread:
            self._thread.join()

    def finish(self) -> None:
        """Stop, after all is up to date.

        Raises:
            StorageError: it cannot be written.
        """
        self.leave()
        self.step(settled_s=0)

    def step(self, *, settled_s: float) -> None:
        """One round over the files that have not changed for so long."""
        known, found = self._load(), self._scan()
        newest_ns = time.time_ns() - int(settled_s * 1e9)
        for name, state in found.items():
            if settled_s and self._unfinished and name.endswith(self._unfinished):
                continue
            if known.get(name) != state and (state[1] <= newest_ns or not settled_s):
                self._put(name)
                known[name] = state
                self._keep(known)
        for name in [name for name in known if name not in found]:
            self._storage.delete(self._uri.join(name))
            del known[name]
            self._keep(known)

    def _put(self, name: str) -> None:
        path = self._folder / name
        if not path.resolve().is_relative_to(self._real):
            return  # the program put a link in the place of a folder
        try:
            self._storage.put(path, self._uri.join(name))
        except (StorageError, OSError):
            if path.exists():  # otherwise the program has removed it meanwhile
                raise

    def _scan(self) -> _Known:
        found: _Known = {}
        for folder, _, names in os.walk(self._folder):
            for path in (Path(folder, name) for name in names):
                with contextlib.suppress(OSError):  # removed meanwhile
                    if path.is_file() and not path.is_symlink():
                        facts = path.stat()
                        found[path.relative_to(self._folder).as_posix()] = [facts.st_size, facts.st_mtime_ns]
        return found

    def _load(self) -> _Known:
        try:
            known: _Known = json.loads(self._known_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return known

    def _keep(self, known: _Known) -> None:
        temporary = self._known_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(known), encoding="utf-8")
        temporary.replace(self._known_file)
