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
from typing import Any, TypeVar

from kennel.emulator.state.database import Database
from kennel.emulator.state.shortages import Patience, Reserve

Document = dict[str, Any]
_T = TypeVar("_T")
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
    """Safe for threads. What the machine lacks comes as an OSError (see shortages.py), or is waited for (`patient`)."""

    def __init__(self, file: Path) -> None:
        """Open the file, or make it (mode 600).

        Raises:
            OSError: there is no room for it, or it cannot be opened.
        """
        self._database = Database(file)
        self._listeners: list[tuple[str, Callable[[str], None]]] = []
        self._reserve = Reserve(file.with_name("reserve"))
        self._patience: Patience | None = None
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        with self._database.reading() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_SCHEMA)
            for members in _INDEXES:
                columns = ", ".join(map(_column, members))
                connection.execute(f"CREATE INDEX IF NOT EXISTS 'by {' '.join(members)}' ON resource (kind, {columns})")

    def patient(self, leaving: threading.Event) -> Store:
        """The same store for threads that must not end while the disk is full: every call waits until it can be done.

        Its methods raise LeavingError when `leaving` is set meanwhile.
        """
        other = object.__new__(Store)
        other._database, other._listeners, other._reserve = self._database, self._listeners, self._reserve
        other._patience = Patience(leaving, self._database.file.parent, self._reserve)
        return other

    def _do(self, action: Callable[[], _T]) -> _T:
        return self._patience.until_done(action) if self._patience else action()

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

        def write() -> None:
            with self._database.writing() as connection:
                connection.execute(
                    "INSERT INTO resource VALUES (?, ?, ?, ?)", (kind, name, created, json.dumps(document))
                )

        try:
            self._do(write)
        except sqlite3.IntegrityError:
            raise ExistsError(f"{kind} '{name}' exists") from None

    def get(self, kind: str, name: str) -> Document:
        """One resource.

        Raises:
            MissingError: there is none.
        """

        def read() -> Document:
            with self._database.reading() as connection:
                return _get(connection, kind, name)

        return self._do(read)

    def update(self, kind: str, name: str, change: Callable[[Document], object]) -> Document:
        """Change a resource in one transaction and return it. An exception of `change` leaves it as it was.

        Raises:
            MissingError: there is none.
        """

        def write() -> Document:
            with self._database.writing() as connection:
                document = _get(connection, kind, name)
                change(document)
                connection.execute(
                    "UPDATE resource SET document = ? WHERE kind = ? AND name = ?", (json.dumps(document), kind, name)
                )
                return document

        document = self._do(write)
        self._tell(kind, name)
        return document

    def delete(self, kind: str, name: str) -> None:
        """Forget a resource.

        Raises:
            MissingError: there is none.
        """

        def write() -> int:
            with self._database.writing() as connection:
                return connection.execute(
                    "DELETE FROM resource WHERE kind = ? AND name = ?", (kind, name)
                ).rowcount  # fmt: skip

        if not self._do(write):
            raise MissingError(f"there is no {kind} '{name}'")
        self._tell(kind, name)

    def all(self, kind: str) -> list[Document]:
        """All resources of a kind, the oldest first."""
        return self._documents("SELECT document FROM resource WHERE kind = ? ORDER BY created, name", (kind,))

    def having(self, kind: str, member: str, value: str) -> list[Document]:
        """The resources of a kind whose member, by its dotted path, has a value; the oldest first."""
        return self._documents(
            f"SELECT document FROM resource WHERE kind = ? AND {_column(member)} = ? "  # noqa: S608
            f"ORDER BY {_column('CreationTime')}, name",
            (kind, value),
        )

    def _documents(self, query: str, values: Sequence[Any]) -> list[Document]:
        def read() -> list[Document]:
            with self._database.reading() as connection:
                return [json.loads(row[0]) for row in connection.execute(query, values)]

        return self._do(read)

    def select(self, kind: str, members: Sequence[str], selection: Selection = _ALL) -> Iterator[Document]:
        """Resources of a kind with two or more members only, each read when it is asked for; the oldest first."""
        paths = ", ".join("?" * len(members))
        where, values = _where(selection)
        direction = "DESC" if selection.descending else "ASC"
        order = ", ".join(f"{_column(one)} {direction}" for one in dict.fromkeys((selection.order, NAME)))
        query = f"SELECT json_extract(document, {paths}) FROM resource WHERE kind = ?{where} ORDER BY {order}"  # noqa: S608
        with self._database.reading() as connection:
            rows = connection.execute(query, (*(f"$.{member}" for member in members), kind, *values))
            for row in rows:
                found = zip(members, json.loads(row[0]), strict=True)
                yield {member: value for member, value in found if value is not None}


def _get(connection: sqlite3.Connection, kind: str, name: str) -> Document:
    row = connection.execute("SELECT document FROM resource WHERE kind = ? AND name = ?", (kind, name)).fetchone()
    if row is None:
        raise MissingError(f"there is no {kind} '{name}'")
    found: Document = json.loads(row[0])
    return found


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
