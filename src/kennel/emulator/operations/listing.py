"""Filters, order and pages of the List operations."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kennel.emulator.errors import ValidationException
from kennel.emulator.operations.context import Request
from kennel.emulator.store import Document, Store

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

    def page(self, store: Store, request: Request, keep: Callable[[Document], bool] = bool) -> Document:
        """The documents that a request asks for and `keep` lets pass, as {"Items": […], "NextToken": …}.

        Raises:
            ValidationException: the token is none that was given out.
        """
        member = self._sort_member(request.get("SortBy", self.sort_by))
        order = request.get("SortOrder", "Descending" if self.descending else "Ascending")
        members = list(dict.fromkeys((self.name, *_BY_TIME, *self.members, *filter(None, [self.status]))))
        found = [one for one in store.select(self.kind, members) if self._matches(one, request) and keep(one)]
        found.sort(key=lambda one: self._key(one, member), reverse=order == "Descending")
        if "NextToken" in request:
            last = _read_token(request["NextToken"])
            found = [one for one in found if (self._key(one, member) < last) == (order == "Descending")
                     and self._key(one, member) != last]  # fmt: skip
        size = request.get("MaxResults", DEFAULT_PAGE)
        more = len(found) > size
        return {
            "Items": found[:size],
            "NextToken": _token(self._key(found[size - 1], member)) if more else None,
        }

    def _sort_member(self, sort_by: str) -> str:
        names = {"Name": self.name, "Status": self.status, **_BY_TIME, **self.sort_keys}
        return names[sort_by]

    def _key(self, document: Document, member: str) -> tuple[Any, str]:
        return document.get(member, 0), document[self.name]

    def _matches(self, document: Document, request: Request) -> bool:
        return (
            request.get("NameContains", "").lower() in document[self.name].lower()
            and request.get("StatusEquals") in (None, document.get(self.status))
            and all(_within(document, request, member) for member in _BY_TIME)
        )


def _within(document: Document, request: Request, member: str) -> bool:
    time_s = document.get(member, 0)
    after_s = request.get(f"{member}After", float("-inf"))
    before_s = request.get(f"{member}Before", float("inf"))
    return bool(after_s <= time_s <= before_s)


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
