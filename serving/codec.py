"""Request bodies to image bytes, answers to JSON. Standard library only: it refuses while torch is still imported."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.errors import RequestError

JSON_TYPE = "application/json"
SNIFFED_TYPES = ("application/octet-stream", "application/x-image")  # SageMaker's names for "some image"
IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp", "image/bmp", "image/x-ms-bmp", "image/tiff")
MAX_IMAGES = 64  # a 6 MB body can hold thousands of tiny images, and one worker would be theirs for minutes
DEFAULT_TOP_K = 5
_TOP_K_ATTRIBUTE = re.compile(r"(?:^|[;,\s])top_k=([^;,\s]*)")
_SHAPES = 'Send {"instances": [{"b64": "<base64>"}, …]}, a list of such instances, or {"image": "<base64>"}.'


@dataclass(frozen=True)
class Photos:
    """The encoded images of one request."""

    images: tuple[bytes, ...]
    listed: bool  # the client sent a list, and gets one back even when it holds one image

    def name(self, index: int) -> str:
        """How a sentence refers to one of them."""
        return f"Image {index} of the list" if self.listed else "The image"


def media_type(content_type: str | None) -> str:
    """The request's type without its parameters; a body without a type is looked at.

    Raises:
        RequestError: 415, not one that is taken.
    """
    name = (content_type or SNIFFED_TYPES[0]).partition(";")[0].strip().lower()
    if name not in (JSON_TYPE, *SNIFFED_TYPES, *IMAGE_TYPES):
        taken = ", ".join((*IMAGE_TYPES, *SNIFFED_TYPES, JSON_TYPE))
        raise RequestError(415, "unsupported_type", f"Content-Type '{name}' is not taken. Send one of {taken}.")
    return name


def check_encoding(content_encoding: str | None) -> None:
    """Refuse compressed bodies (415): their size is unknown until they are unpacked."""
    if (content_encoding or "identity").strip().lower() != "identity":
        raise RequestError(
            415, "unsupported_encoding", f"Content-Encoding '{content_encoding}' is not taken. Send the body as it is."
        )


def check_accept(accept: str | None) -> None:
    """Refuse (406) a client that does not take JSON, the only type of an answer (RFC 9110, 12.5.1)."""
    if accept is None or not accept.strip():
        return
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name in (JSON_TYPE, "application/*", "*/*") and not _refused(parameters):
            return
    raise RequestError(
        406, "not_acceptable", f"Accept '{accept}' does not allow {JSON_TYPE}, the type of every answer."
    )


def _refused(parameters: Iterable[str]) -> bool:
    return any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)


def read_options(query: Mapping[str, Any], custom_attributes: str | None = None) -> int:
    """How many classes an answer lists: `top_k` of the query string, else of the custom attributes, else 5.

    InvokeEndpoint carries no query string, so there X-Amzn-SageMaker-Custom-Attributes is the only way. Other
    attributes belong to the caller and are left alone; other query parameters are a mistake.

    Raises:
        RequestError: 400, an unknown parameter or not a whole number of at least 1.
    """
    for name in query:
        if name != "top_k":
            hint = "Did you mean 'top_k'?" if difflib.get_close_matches(name, ["top_k"]) else "The one there is: top_k."
            raise RequestError(400, "invalid_parameter", f"Unknown query parameter '{name}'. {hint}")
    found = _TOP_K_ATTRIBUTE.search(custom_attributes or "")
    value = query.get("top_k", found.group(1) if found else str(DEFAULT_TOP_K))
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise RequestError(400, "invalid_parameter", f"top_k is '{text[:40]}'; give a whole number of at least 1.")
    return int(text)


def read_photos(body: Any, media: str) -> Photos:
    """The images of a body.

    Args:
        body: bytes, or what a front made of a JSON body already (TorchServe parses it before the handler).
        media: what `media_type` returned.

    Raises:
        RequestError: 400 for an empty body, wrong JSON or wrong base64; 413 for more than 64 images.
    """
    if isinstance(body, (bytes, bytearray)) and not body:
        raise RequestError(400, "empty_body", "The body is empty. Send an image, or JSON with base64 images.")
    if media != JSON_TYPE:
        if not isinstance(body, (bytes, bytearray)):
            raise RequestError(400, "invalid_body", f"A body of type {media} must be bytes.")
        return Photos((bytes(body),), listed=False)
    value = _parse(body) if isinstance(body, (bytes, bytearray, str)) else body
    if isinstance(value, dict):
        _check_keys(value)
    if isinstance(value, dict) and "image" in value:
        return Photos((_unpack(value["image"], "'image'"),), listed=False)
    instances = value["instances"] if isinstance(value, dict) else value
    return Photos(tuple(_listed(instances)), listed=True)


def _parse(body: bytes | bytearray | str) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise RequestError(400, "invalid_json", f"The JSON is nested too deeply. {_SHAPES}") from None
    except ValueError as error:  # wrong JSON, wrong UTF-8, a number of thousands of digits
        raise RequestError(400, "invalid_json", f"The body is not valid JSON: {error}.") from None


def _check_keys(value: dict[str, Any]) -> None:
    known = ("image", "instances")
    if len(value) == 1 and next(iter(value)) in known:
        return
    keys = ", ".join(f"'{str(key)[:40]}'" for key in list(value)[:5]) or "no keys"
    close = [match for key in value for match in difflib.get_close_matches(str(key)[:40], known, n=1)]
    hint = f"Did you mean '{close[0]}'? " if close and close[0] not in value else ""
    raise RequestError(
        400, "invalid_json", f"The JSON object has {keys}; it must have 'instances' or 'image'. {hint}{_SHAPES}"
    )


def _listed(instances: Any) -> Iterable[bytes]:
    if not isinstance(instances, list) or not instances:
        what = "an empty list" if instances == [] else _kind(instances)
        raise RequestError(400, "invalid_json", f"The images are {what}, not a list of one or more. {_SHAPES}")
    if len(instances) > MAX_IMAGES:
        raise RequestError(
            413,
            "too_many_images",
            f"{len(instances)} images are more than the limit of {MAX_IMAGES}. Send fewer at once.",
        )
    for index, instance in enumerate(instances):
        place = f"instances[{index}]"
        if isinstance(instance, dict):
            if list(instance) != ["b64"]:
                keys = ", ".join(f"'{str(key)[:40]}'" for key in list(instance)[:5]) or "no keys"
                raise RequestError(400, "invalid_json", f"{place} has {keys}; it must have the one key 'b64'.")
            instance = instance["b64"]  # noqa: PLW2901 the two spellings meet here
        yield _unpack(instance, place)


def _unpack(text: Any, place: str) -> bytes:
    if not isinstance(text, str):
        raise RequestError(400, "invalid_json", f"{place} is {_kind(text)}, not a base64 string. {_SHAPES}")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)  # base64(1) breaks its lines
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, "invalid_base64", f"{place} is not base64: {error}.") from None
    if not data:
        raise RequestError(400, "invalid_base64", f"{place} is an empty string. Put an encoded image there.")
    return data


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def to_json(value: Any) -> bytes:
    """Compact UTF-8 JSON. A float32 probability is written with every digit of its exact value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
