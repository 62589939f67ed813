"""What a request says it sends and wants: Content-Type, Content-Encoding and Accept.

Standard library only: it refuses while torch is still imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from serving.errors import RequestError

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
NPY = "application/x-npy"
MULTIPART = "multipart/form-data"
SNIFFED_TYPES = ("application/octet-stream", "application/x-image")  # SageMaker's names for "some image"
IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp", "image/bmp", "image/x-ms-bmp", "image/tiff")
TAKEN = (*IMAGE_TYPES, *SNIFFED_TYPES, JSON, JSON_LINES, NPY, MULTIPART)
ONE_IMAGE = (*IMAGE_TYPES, *SNIFFED_TYPES)  # a body of such a type cannot hold more
GIVEN = (JSON, JSON_LINES, CSV)  # the first is what a client gets that does not care
_ALIASES = {"application/jsonl": JSON_LINES, "application/x-ndjson": JSON_LINES, "application/x-jsonlines": JSON_LINES}
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def media_type(content_type: str | None) -> str:
    """The request's type without its parameters; a body without a type is looked at.

    Raises:
        RequestError: 415, not one that is taken.
    """
    name = (content_type or SNIFFED_TYPES[0]).partition(";")[0].strip().lower()
    name = _ALIASES.get(name, name)
    if name not in TAKEN:
        raise RequestError(
            415, "unsupported_type", f"Content-Type '{name[:80]}' is not taken. Send one of {', '.join(TAKEN)}."
        )
    return name


def check_encoding(content_encoding: str | None) -> None:
    """Refuse compressed bodies (415): their size is unknown until they are unpacked."""
    if (content_encoding or "identity").strip().lower() != "identity":
        raise RequestError(
            415,
            "unsupported_encoding",
            f"Content-Encoding '{(content_encoding or '')[:80]}' is not taken. Send the body as it is.",
        )


def answer_type(accept: str | None, sent: str) -> str:
    """The type of the answer (RFC 9110, 12.5.1): the one that `Accept` values most.

    Args:
        accept: the header; a client that does not care gets JSON, or lines for lines.
        sent: what `media_type` returned.

    Raises:
        RequestError: 406, none of the types is acceptable.
    """
    order = (JSON_LINES, JSON, CSV) if sent == JSON_LINES else GIVEN
    if accept is None or not accept.strip():
        return order[0]
    ranges = _ranges(accept)
    found = {name: _quality(name, ranges) for name in order}
    best = max(order, key=lambda name: found[name])
    if found[best] <= 0:
        raise RequestError(
            406, "not_acceptable", f"Accept '{accept[:200]}' allows none of {', '.join(GIVEN)}. Ask for one of these."
        )
    return best


def _ranges(accept: str) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights = [float(match[1]) for one in parameters if (match := _QUALITY.fullmatch(one))]
        found[_ALIASES.get(name, name)] = weights[0] if weights else 1.0
    return found


def _quality(name: str, ranges: Mapping[str, float]) -> float:
    """The most specific range that fits decides."""
    for one in (name, f"{name.partition('/')[0]}/*", "*/*"):
        if one in ranges:
            return ranges[one]
    return 0.0
