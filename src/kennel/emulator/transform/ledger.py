"""What a batch transform job has to do, and what is done: files that survive a kill at any moment."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

from kennel.contract.files import write_json
from kennel.emulator.state.line_files import append
from kennel.emulator.state.shortages import Patience
from kennel.storage import Item, Uri


class Ledger:
    """The objects of a job, listed once, and a line for each that is done with or without success.

    The list is not made anew after a restart: the job's own outputs may lie below its input.
    """

    def __init__(self, folder: Path, patience: Patience) -> None:
        """Keep it in `folder`; a line for which there is no room is waited for."""
        self._patience = patience
        self._items_file = folder / "objects.json"
        self._done_file = folder / "done.jsonl"
        self._lock = threading.Lock()

    def items(self) -> list[Item] | None:
        """The list, or None while there is none."""
        try:
            entries = json.loads(self._items_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return [Item(Uri(*uri), name, size) for uri, name, size in entries]

    def keep_items(self, items: Sequence[Item]) -> None:
        """Keep the list, all of it or nothing of it."""
        entries = [[[one.uri.scheme, one.uri.bucket, one.uri.path], one.name, one.size_bytes] for one in items]
        self._patience.until_done(lambda: write_json(self._items_file, entries))

    def note(self, name: str, failure: str | None = None) -> None:
        """An object's output is written, or it has none and this is why."""
        line = json.dumps({"name": name, "failure": failure}) + "\n"
        with self._lock:
            self._patience.until_done(lambda: append(self._done_file, line.encode()))

    def done(self) -> dict[str, str | None]:
        """The objects that are done, in the order in which they were, with the reason where one has failed."""
        found: dict[str, str | None] = {}
        try:
            lines = self._done_file.read_bytes().splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            with contextlib.suppress(ValueError):  # cut short by a kill: the object is done again
                entry = json.loads(line)
                found[entry["name"]] = entry["failure"]
        return found
