"""What was created, so that it can be deleted and its cost told: one JSON file, changed under a lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kennel.contract.files import write_json
from kennel.driver.errors import DriverError

CREATING, CREATED, DELETED = "creating", "created", "deleted"
_SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """A resource that this machine created, or was about to."""

    kind: str  # training-job, tuning-job, model, endpoint-config, endpoint, transform-job, scaling-target, data
    name: str
    on: str  # local or aws
    region: str
    state: str  # creating until the other end said yes, then created, then deleted
    created: float  # seconds since 1970
    deleted: float = 0.0
    account: str = ""  # of AWS
    details: dict[str, Any] = field(default_factory=dict)  # instance_type, instance_count, billable_s, uri …

    @property
    def resource(self) -> tuple[str, str, str, str, str]:
        """What the other end knows it by."""
        return self.on, self.account, self.region, self.kind, self.name

    def is_same(self, other: Entry) -> bool:
        """Whether it is the same line of the record; a name may be used again after it was deleted."""
        return self.resource == other.resource and self.created == other.created


class Record:
    """The file of entries, oldest first. Safe for several processes."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def entries(self) -> list[Entry]:
        """All of them.

        Raises:
            DriverError: the file is not a record that this version can read.
        """
        try:
            text = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        try:
            values = json.loads(text)
            if values["schema"] != _SCHEMA:
                raise ValueError(f"schema {values['schema']}")
            return [Entry(**entry) for entry in values["entries"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DriverError(
                f"{self._file} cannot be read ({error}).",
                "It names what was created: repair it, or move it away and look in the console for what is left.",
            ) from error

    def alive(self) -> list[Entry]:
        """Entries that were not deleted yet."""
        return [entry for entry in self.entries() if entry.state != DELETED]

    def begin(self, kind: str, name: str, on: str, region: str, account: str = "", **details: Any) -> Entry:
        """Note a resource before the request that creates it is sent."""
        entry = Entry(kind, name, on, region, CREATING, time.time(), account=account, details=details)
        self._change(lambda entries: [*entries, entry])
        return entry

    def confirm(self, entry: Entry, **details: Any) -> None:
        """The other end has it. An older one of its name that was not deleted here is then gone, too."""

        def change(entries: list[Entry]) -> list[Entry]:
            kept = [e for e in entries if e.is_same(entry) or e.state == DELETED or e.resource != entry.resource]
            done = replace(entry, state=CREATED, details={**entry.details, **details})
            return [done if e.is_same(entry) else e for e in kept]

        self._change(change)

    def forget(self, entry: Entry) -> None:
        """The other end refused: there is nothing."""
        self._change(lambda entries: [e for e in entries if not e.is_same(entry)])

    def note(self, kind: str, name: str, on: str, **details: Any) -> None:
        """Add details to what is alive of this name, if there is anything."""

        def change(entry: Entry) -> Entry:
            ours = (entry.kind, entry.name, entry.on) == (kind, name, on) and entry.state != DELETED
            return replace(entry, details={**entry.details, **details}) if ours else entry

        self._change(lambda entries: [change(entry) for entry in entries])

    def mark_deleted(self, entry: Entry) -> None:
        """It is gone; the entry stays for its cost."""
        self._replace(entry, lambda e: replace(e, state=DELETED, deleted=time.time()))

    def _replace(self, entry: Entry, change: Callable[[Entry], Entry]) -> None:
        self._change(lambda entries: [change(e) if e.is_same(entry) else e for e in entries])

    def _change(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        with self._locked():
            entries = change(self.entries())
            write_json(self._file, {"schema": _SCHEMA, "entries": [asdict(entry) for entry in entries]})

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
