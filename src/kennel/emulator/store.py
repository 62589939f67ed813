"""What the emulator remembers: one SQLite file, a document for each resource.

A document is what Describe answers, as plain JSON with times in seconds since 1970; keys that begin with an underscore
are the emulator's own and are never shown. A change is one transaction, so that a kill at any moment leaves the state
before it or the state after it, and two clients never see half of one.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Document = dict[str, Any]
_BUSY_S = 30
_SCHEMA = """
CREATE TABLE IF NOT EXISTS resource (
    kind TEXT NOT NULL, name TEXT NOT NULL, created REAL NOT NULL, document TEXT NOT NULL, PRIMARY KEY (kind, name)
)"""
_MEMBER = re.compile(r"[A-Za-z_.]+")
NAME, CREATED = "name", "created"  # columns, which a selection can name like members
_INDEXES = (  # orders and filters of lists of thousands; any other is read from every document
    (CREATED, NAME),
    ("CreationTime", NAME),
    ("LastModifiedTime", NAME),
    ("TrainingJobStatus", NAME),
    ("TrainingJobStatus", "CreationTime", NAME),
    ("TransformJobStatus", "CreationTime", NAME),
    ("WarmPoolStatus.Status", "CreationTime", NAME),
)


@dataclass(frozen=True)
class Selection:
    """Which resources of a kind, in which order. Members are dotted paths of a document, or NAME or CREATED."""

    order: str = CREATED  # then by name
    descending: bool = False
    bounds: Sequence[tuple[str, str, Any]] = ()  # member, one of = < > <= >=, value
    name_has: str = ""  # in any case
    after: tuple[Any, str] | None = None  # value and name of the last one that was seen


_ALL = Selection()


class ExistsError(Exception):
    """There is a resource of this kind and name already."""


class MissingError(Exception):
    """There is no resource of this kind and name."""


class Store:
    """Safe for threads: each has a connection of its own."""

    def __init__(self, file: Path) -> None:
        """Open the file, or make it (mode 600)."""
        self._file = file
        self._own = threading.local()
        self._listeners: list[tuple[str, Callable[[str], None]]] = []
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_SCHEMA)
            for members in _INDEXES:
                columns = ", ".join(map(_column, members))
                connection.execute(f"CREATE INDEX IF NOT EXISTS 'by {' '.join(members)}' ON resource (kind, {columns})")

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._own, "connection"):
            self._own.connection = sqlite3.connect(self._file, timeout=_BUSY_S, isolation_level=None)
            # With a write-ahead log, only a power cut can undo the last changes then; a kill cannot. Otherwise each
            # change waits for the disk, 15 times in a training job.
            self._own.connection.execute("PRAGMA synchronous=NORMAL")
        connection: sqlite3.Connection = self._own.connection
        return connection

    def listen(self, kind: str, listener: Callable[[str], None]) -> None:
        """Call `listener` with a resource's name after each change or deletion of one, in the thread that made it."""
        self._listeners.append((kind, listener))

    def _tell(self, kind: str, name: str) -> None:
        for wanted, listener in self._listeners:
            if wanted == kind:
                listener(name)

    def insert(self, kind: str, name: str, created: float, document: Document) -> None:
        """Add a resource.

        Raises:
            ExistsError: the name is taken.
        """
        try:
            self._connection().execute(
                "INSERT INTO resource VALUES (?, ?, ?, ?)", (kind, name, created, json.dumps(document))
            )
        except sqlite3.IntegrityError:
            raise ExistsError(f"{kind} '{name}' exists") from None

    def get(self, kind: str, name: str) -> Document:
        """One resource.

        Raises:
            MissingError: there is none.
        """
        row = self._connection().execute(
            "SELECT document FROM resource WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()  # fmt: skip
        if row is None:
            raise MissingError(f"there is no {kind} '{name}'")
        found: Document = json.loads(row[0])
        return found

    def update(self, kind: str, name: str, change: Callable[[Document], object]) -> Document:
        """Change a resource in one transaction and return it. An exception of `change` leaves it as it was.

        Raises:
            MissingError: there is none.
        """
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            document = self.get(kind, name)
            change(document)
            connection.execute(
                "UPDATE resource SET document = ? WHERE kind = ? AND name = ?", (json.dumps(document), kind, name)
            )
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        self._tell(kind, name)
        return document

    def delete(self, kind: str, name: str) -> None:
        """Forget a resource.

        Raises:
            MissingError: there is none.
        """
        done = self._connection().execute("DELETE FROM resource WHERE kind = ? AND name = ?", (kind, name))
        if not done.rowcount:
            raise MissingError(f"there is no {kind} '{name}'")
        self._tell(kind, name)

    def all(self, kind: str) -> list[Document]:
        """All resources of a kind, the oldest first."""
        rows = self._connection().execute(
            "SELECT document FROM resource WHERE kind = ? ORDER BY created, name", (kind,)
        )  # fmt: skip
        return [json.loads(row[0]) for row in rows]

    def having(self, kind: str, member: str, value: str) -> list[Document]:
        """The resources of a kind whose member, by its dotted path, has a value; the oldest first."""
        rows = self._connection().execute(
            f"SELECT document FROM resource WHERE kind = ? AND {_column(member)} = ? "  # noqa: S608
            f"ORDER BY {_column('CreationTime')}, name",
            (kind, value),
        )
        return [json.loads(row[0]) for row in rows]

    def select(self, kind: str, members: Sequence[str], selection: Selection = _ALL) -> Iterator[Document]:
        """Resources of a kind with two or more members only, each read when it is asked for; the oldest first."""
        paths = ", ".join("?" * len(members))
        where, values = _where(selection)
        direction = "DESC" if selection.descending else "ASC"
        order = ", ".join(f"{_column(one)} {direction}" for one in dict.fromkeys((selection.order, NAME)))
        rows = self._connection().execute(
            f"SELECT json_extract(document, {paths}) FROM resource WHERE kind = ?{where} ORDER BY {order}",  # noqa: S608
            (*(f"$.{member}" for member in members), kind, *values),
        )
        return ({m: v for m, v in zip(members, json.loads(r[0]), strict=True) if v is not None} for r in rows)


def _where(selection: Selection) -> tuple[str, list[Any]]:
    """The conditions beside the kind, and their values."""
    conditions, values = [], []
    for member, operator, value in selection.bounds:
        conditions.append(f"{_column(member)} {operator} ?")
        values.append(value)
    if selection.name_has:
        conditions.append("instr(lower(name), lower(?)) > 0")
        values.append(selection.name_has)
    if selection.after:
        conditions.append(f"({_column(selection.order)}, name) {'<' if selection.descending else '>'} (?, ?)")
        values.extend(selection.after)
    return "".join(f" AND {condition}" for condition in conditions), values


def _column(member: str) -> str:
    """A column, or a member in the very words of its index."""
    if member in (NAME, CREATED):
        return member
    if not _MEMBER.fullmatch(member):
        raise ValueError(f"'{member}' is no member of a document.")
    return f"json_extract(document, '$.{member}')"
