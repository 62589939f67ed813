"""Tags, kept in the document of what they are on, so that they come and go with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from kennel.emulator.documents.names import ACCOUNT, TAGS, Request
from kennel.emulator.errors import ValidationException
from kennel.emulator.operations.context import Context
from kennel.emulator.state.store import Document, MissingError

MAX_TAGS = 50
_ARN = re.compile(rf"arn:aws[a-z-]*:sagemaker:([a-z0-9-]+):{ACCOUNT}:([a-z-]+)/([a-zA-Z0-9-]+)")
_KINDS = ("training-job", "model", "endpoint-config", "endpoint", "transform-job", "hyper-parameter-tuning-job")


def tags_of(request: Request) -> dict[str, str]:
    """The tags of a Create request, as they are kept.

    Raises:
        ValidationException: a key twice, too many, or a reserved one.
    """
    return _added({}, request.get("Tags", []))


def add_tags(context: Context, request: Request) -> Document:
    """AddTags: add or replace."""
    kind, name = _resource(context, request["ResourceArn"])

    def change(document: Document) -> None:
        document[TAGS] = _added(document.get(TAGS, {}), request["Tags"])

    return {"Tags": _listed(_update(context, kind, name, change))}


def list_tags(context: Context, request: Request) -> Document:
    """ListTags: there are 50 at most, so that one page holds them."""
    kind, name = _resource(context, request["ResourceArn"])
    return {"Tags": _listed(_get(context, kind, name))}


def delete_tags(context: Context, request: Request) -> Document:
    """DeleteTags: those that are not there do not matter."""
    kind, name = _resource(context, request["ResourceArn"])

    def change(document: Document) -> None:
        kept = document.get(TAGS, {})
        document[TAGS] = {key: value for key, value in kept.items() if key not in request["TagKeys"]}

    _update(context, kind, name, change)
    return {}


def _added(tags: Mapping[str, str], new: Sequence[Mapping[str, str]]) -> dict[str, str]:
    keys = [tag["Key"] for tag in new]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    problems = [f"Tag key '{key}' is given twice; give it once" for key in twice]
    problems += [
        f"Tag key '{key}' begins with aws:, which is reserved" for key in keys if key.lower().startswith("aws:")
    ]
    found = {**tags, **{tag["Key"]: tag["Value"] for tag in new}}
    if len(found) > MAX_TAGS:
        problems.append(f"There would be {len(found)} tags; {MAX_TAGS} are allowed")
    if problems:
        raise ValidationException.of(problems)
    return found


def _listed(document: Document) -> list[Document]:
    return [{"Key": key, "Value": value} for key, value in document.get(TAGS, {}).items()]


def _resource(context: Context, arn: str) -> tuple[str, str]:
    match = _ARN.fullmatch(arn)
    if match is None or match[1] != context.region or match[2] not in _KINDS:
        example = context.arn("training-job", "NAME")
        raise ValidationException(f"Invalid ARN '{arn}'. Send one of a {', '.join(_KINDS)} of this server: {example}.")
    return match[2], match[3]


def _get(context: Context, kind: str, name: str) -> Document:
    try:
        return context.store.get(kind, name)
    except MissingError:
        raise _missing(context, kind, name) from None


def _update(context: Context, kind: str, name: str, change: Callable[[Document], None]) -> Document:
    try:
        return context.store.update(kind, name, change)
    except MissingError:
        raise _missing(context, kind, name) from None


def _missing(context: Context, kind: str, name: str) -> ValidationException:
    return ValidationException(f"Could not find the resource {context.arn(kind, name)}. Create it before you tag it.")
