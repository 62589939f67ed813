"""What creating, describing and deleting have in common, with AWS's words where there is nothing or too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kennel.emulator.documents.names import TAGS, WARNINGS, Request
from kennel.emulator.errors import AwsError, ResourceInUse, ResourceNotFound, ValidationException
from kennel.emulator.operations.context import Context
from kennel.emulator.operations.listing import Listing
from kennel.emulator.operations.tags import tags_of
from kennel.emulator.state.log_files import WARNING_LOGS
from kennel.emulator.state.store import Document, ExistsError, MissingError

_WORDS = {"endpoint-config": "endpoint configuration"}  # of AWS's messages, where they are not the kind's own name
_MODELLED = (
    "training-job",
    "transform-job",
    "hyper-parameter-tuning-job",
)  # whose operations declare ResourceNotFound and ResourceInUse


def create(context: Context, kind: str, name: str, document: Document, warnings: Sequence[str]) -> Document:
    """Store a new resource: `document` without Tags, with CreationTime; its warnings go to its warnings log, too.

    Raises:
        AwsError: the name is taken.
    """
    now_s = context.clock()
    stored: Request = {key: value for key, value in document.items() if key != "Tags"}
    stored = {"CreationTime": now_s, **stored, TAGS: tags_of(document), WARNINGS: list(warnings)}
    try:
        context.store.insert(kind, name, stored["CreationTime"], stored)
    except ExistsError:
        raise _exists(context, kind, name) from None
    if warnings:
        context.home.logs.note(WARNING_LOGS, f"{kind}/{name}", warnings)
    return stored


def describe(context: Context, kind: str, name: str) -> Document:
    """A stored resource.

    Raises:
        AwsError: there is none.
    """
    try:
        return context.store.get(kind, name)
    except MissingError:
        raise missing(context, kind, name) from None


def remove(context: Context, kind: str, name: str) -> Document:
    """Forget a resource and its warnings.

    Raises:
        AwsError: there is none.
    """
    try:
        context.store.delete(kind, name)
    except MissingError:
        raise missing(context, kind, name) from None
    context.home.logs.file(WARNING_LOGS, f"{kind}/{name}").unlink(missing_ok=True)
    return {}


def change(context: Context, kind: str, name: str, alter: Callable[[Document], object]) -> Document:
    """Change a resource in one transaction, and return it.

    Raises:
        AwsError: there is none, or what `alter` raises.
    """
    try:
        return context.store.update(kind, name, alter)
    except MissingError:
        raise missing(context, kind, name) from None


@dataclass(frozen=True)
class Collection:
    """Describe, List and Delete of a kind of resource that nothing runs for."""

    listing: Listing
    shown: str  # the member of the List operation's answer

    def describe(self, context: Context, request: Request) -> Document:
        """Describe."""
        return describe(context, self.listing.kind, request[self.listing.name])

    def list(self, context: Context, request: Request) -> Document:
        """List, filtered and in pages."""
        page = self.listing.page(context.store, request)
        return {self.shown: page["Items"], "NextToken": page["NextToken"]}

    def remove(self, context: Context, request: Request) -> Document:
        """Delete: what runs of it runs on, as on SageMaker."""
        return remove(context, self.listing.kind, request[self.listing.name])


def missing(context: Context, kind: str, name: str) -> AwsError:
    """The error for a resource that is not there, as the operations of its kind have it."""
    arn = context.arn(kind, name)
    if kind in _MODELLED:
        return ResourceNotFound(f"Requested resource not found. There is no {arn}; list-{kind}s shows what there is.")
    return ValidationException(f'Could not find {_WORDS.get(kind, kind)} "{arn}".')


def _exists(context: Context, kind: str, name: str) -> AwsError:
    arn = context.arn(kind, name)
    if kind in _MODELLED:
        word = kind.replace("-", " ")
        return ResourceInUse(
            f"{word.capitalize()} names must be unique within an AWS account and region, and a {word} with this name "
            f"already exists ({arn}). Choose another name."
        )
    return ValidationException(f'Cannot create already existing {_WORDS.get(kind, kind)} "{arn}". Choose another name.')
