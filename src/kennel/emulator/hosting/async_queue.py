"""The requests of one asynchronous endpoint that have no answer yet: files, so that a kill at any moment loses none.

`ID.json` is the request, with the places of its answer; `ID.body` its payload where the client sent it along. The
outcome is first kept here, as `ID.answer` or `ID.failure`, and then copied to its place: after a kill the copy is made
again, but the container is not asked again.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kennel.contract.files import atomic_write, write_json
from kennel.emulator.state.store import Document

ANSWER, FAILURE = "answer", "failure"
_REQUEST, _BODY, _INPUT = ".json", ".body", ".input"


def _new_id() -> str:
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"  # sorts by time


@dataclass(frozen=True)
class Item:
    """One request."""

    request: Document  # members of InvokeEndpointAsync but Body
    output: str  # the URI of its answer
    failure: str  # the URI of what went wrong
    id: str = field(default_factory=_new_id)
    accepted_s: float = field(default_factory=time.time)  # since 1970


@dataclass(frozen=True)
class Outcome:
    """What became of a request, not yet where it belongs."""

    item: Item
    kind: str  # ANSWER or FAILURE
    file: Path

    @property
    def place(self) -> str:
        """The URI where it belongs."""
        return self.item.output if self.kind == ANSWER else self.item.failure


class Queue:
    """The files of one endpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, item: Item, body: bytes | None) -> None:
        """Keep a request; when this returns, a kill does not lose it."""
        try:
            if body is not None:
                with atomic_write(self._file(item, _BODY)) as file:
                    file.write(body)
            write_json(self._file(item, _REQUEST), asdict(item))
        except OSError:
            self._file(item, _BODY).unlink(missing_ok=True)
            raise

    def body(self, item: Item) -> Path | None:
        """The payload, where the client sent it along."""
        path = self._file(item, _BODY)
        return path if path.exists() else None

    def input(self, item: Item) -> Path:
        """Where the payload may be fetched to."""
        return self._file(item, _INPUT)

    def settle(self, item: Item, kind: str, content: bytes) -> Outcome:
        """Keep an outcome; when this returns, the container need not be asked again."""
        path = self._file(item, f".{kind}")
        with atomic_write(path) as file:
            file.write(content)
        return Outcome(item, kind, path)

    def forget(self, item: Item) -> None:
        """The outcome is where it belongs. The request goes first: without it the other files mean nothing."""
        for ending in (_REQUEST, _BODY, _INPUT, f".{ANSWER}", f".{FAILURE}"):
            self._file(item, ending).unlink(missing_ok=True)

    def recover(self) -> tuple[list[Item], list[Outcome]]:
        """What an earlier server has left: requests without an outcome, the oldest first, and outcomes."""
        if not self.folder.is_dir():
            return [], []
        items = list(self._items())
        known = {item.id for item in items}
        outcomes = [
            Outcome(item, kind, path) for item in items for kind in (ANSWER, FAILURE)
            if (path := self._file(item, f".{kind}")).exists()
        ]  # fmt: skip
        settled = {outcome.item.id for outcome in outcomes}
        for path in self.folder.iterdir():
            if path.name.partition(".")[0] not in known:  # half written, or half removed
                path.unlink(missing_ok=True)
        return [item for item in items if item.id not in settled], outcomes

    def _items(self) -> Iterator[Item]:
        for path in sorted(self.folder.glob(f"*{_REQUEST}")):
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            yield Item(**values)

    def remove(self) -> None:
        """The folder, when nothing is left in it."""
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _file(self, item: Item, ending: str) -> Path:
        return self.folder / f"{item.id}{ending}"
