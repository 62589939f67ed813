"""Filters, order and pages of the List operations."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kennel.emulator.documents.names import Request
from kennel.emulator.errors import ValidationException
from kennel.emulator.state.store import NAME, Document, Selection, Store

DEFAULT_PAGE = 10  # what SageMaker gives when MaxResults is not set
_BY_TIME = {"CreationTime": "CreationTime", "LastModifiedTime": "LastModifiedTime"}


@dataclass(frozen=True)
class Listing:
    """How the resources of a kind are listed."""

    kind: str
    name: str  # the member with the resource's name
    members: tuple[str, ...] = ()  # what its summaries show beside name and times
    status: str = ""  # the member with its status, for StatusEquals and SortBy=Status
    descending: bool = True  # when SortOrder is not set
    sort_by: str = "CreationTime"  # when SortBy is not set
    sort_keys: Mapping[str, str] = field(default_factory=dict)  # SortBy's values, where they are not members themselves

    def page(
        self,
        store: Store,
        request: Request,
        keep: Callable[[Document], bool] = bool,
        equal: Mapping[str, Any] | None = None,
    ) -> Document:
        """The documents that a request asks for, as {"Items": […], "NextToken": …}.

        Args:
            store: all of them.
            request: of the List operation.
            keep: what of them is shown; it is asked one by one.
            equal: further members by dotted path, and the value that they must have; None is any.

        Raises:
            ValidationException: the token is none that was given out.
        """
        member = self._sort_member(request.get("SortBy", self.sort_by))
        order = request.get("SortOrder", "Descending" if self.descending else "Ascending")
        members = list(dict.fromkeys((self.name, *_BY_TIME, *self.members, *filter(None, [self.status, member]))))
        selection = Selection(
            order=self._column(member),
            descending=order == "Descending",
            bounds=[*self._bounds(request, equal or {})],
            name_has=request.get("NameContains", ""),
            after=_read_token(request["NextToken"]) if "NextToken" in request else None,
        )
        size = request.get("MaxResults", DEFAULT_PAGE)
        found = list(itertools.islice(filter(keep, store.select(self.kind, members, selection)), size + 1))
        more = len(found) > size
        last = found[size - 1] if more else {}
        return {
            "Items": found[:size],
            "NextToken": _token((last.get(member, 0), last[self.name])) if more else None,
        }

    def _sort_member(self, sort_by: str) -> str:
        names = {"Name": self.name, "Status": self.status, **_BY_TIME, **self.sort_keys}
        return names[sort_by]

    def _column(self, member: str) -> str:
        return NAME if member == self.name else member

    def _bounds(self, request: Request, equal: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        wanted = {self.status: request.get("StatusEquals"), **equal}
        yield from ((member, "=", value) for member, value in wanted.items() if value is not None)
        for member in _BY_TIME:
            for end, operator in (("After", ">="), ("Before", "<=")):
                if member + end in request:
                    yield member, operator, request[member + end]


def page_of(documents: Iterable[Document], request: Request, member: str, name: str) -> Document:
    """A page of documents that are at hand, by a member and then by name, as Listing.page has it; ascending by default.

    Raises:
        ValidationException: the token is none that was given out.
    """

    def key(one: Document) -> tuple[Any, str]:
        return one[member], one[name]

    descending = request.get("SortOrder") == "Descending"
    found = sorted(documents, key=key, reverse=descending)
    if "NextToken" in request:
        last = _read_token(request["NextToken"])
        found = [one for one in found if (key(one) < last if descending else key(one) > last)]
    size = request.get("MaxResults", DEFAULT_PAGE)
    return {"Items": found[:size], "NextToken": _token(key(found[size - 1])) if len(found) > size else None}


def _token(key: tuple[Any, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read_token(token: str) -> tuple[Any, str]:
    try:
        value, name = json.loads(base64.urlsafe_b64decode(token.encode()))
        if not isinstance(name, str) or not isinstance(value, (str, int, float)):
            raise TypeError
    except (ValueError, TypeError):
        raise ValidationException(
            f"NextToken '{token[:100]}' is none of the emulator's. List from the start."
        ) from None
    return value, name
