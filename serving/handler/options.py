"""What a request asks for beside its images: the query string, or the custom attributes of InvokeEndpoint.

Standard library only: it refuses while torch is still imported.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from serving.errors import RequestError

DEFAULT_TOP_K = 5
_ATTRIBUTE = re.compile(r"(?:^|[;,\s])(\w+)=([^;,\s]*)")
_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Options:
    """One request's wishes."""

    top_k: int = DEFAULT_TOP_K  # how many classes an answer lists
    explain: bool = False  # a heat map of what speaks for the first class
    timings: bool = False  # where the time went
    report_errors: bool = False  # a refused image of a list is a line of the answer and leaves the others alone


NAMES = tuple(field.name for field in fields(Options))


def read_options(
    query: Mapping[str, Any], custom_attributes: str | None = None, default: Options | None = None
) -> Options:
    """Each option from the query string, else from the custom attributes, else its default.

    InvokeEndpoint carries no query string, so there X-Amzn-SageMaker-Custom-Attributes is the only way. Other
    attributes belong to the caller and are left alone; other query parameters are a mistake.

    Raises:
        RequestError: 400, an unknown parameter, or a value that is none.
    """
    for name in query:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"There are {', '.join(NAMES)}."
            raise RequestError(400, "invalid_parameter", f"Unknown query parameter '{name[:40]}'. {hint}")
    given: dict[str, Any] = {n: v for n, v in _ATTRIBUTE.findall(custom_attributes or "") if n in NAMES}
    given.update(query)
    return replace(default or Options(), **{name: _value(name, value) for name, value in given.items()})


def _value(name: str, given: Any) -> Any:
    text = given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)
    if name == "top_k":
        if re.fullmatch(r"[0-9]{1,9}", text) and int(text) >= 1:
            return int(text)
        raise RequestError(400, "invalid_parameter", f"top_k is '{text[:40]}'; give a whole number of at least 1.")
    if text.lower() not in _SWITCHES:
        raise RequestError(400, "invalid_parameter", f"{name} is '{text[:40]}'; give true or false.")
    return _SWITCHES[text.lower()]
