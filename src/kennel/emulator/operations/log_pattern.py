"""The terms of CloudWatch Logs' filter patterns: words, "phrases", ?either ?or, -not."""

from __future__ import annotations

import re
from collections.abc import Callable

from kennel.emulator.errors import AwsError

_TERM = re.compile(r'([?-]?)(?:"((?:[^"\\]|\\.)*)"|(\S+))')


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a message has what a pattern asks for.

    Raises:
        AwsError: the pattern is one of JSON, of fields or a regular expression, which are not emulated.
    """
    stripped = pattern.strip()
    if stripped[:1] in ("{", "[", "%"):
        raise AwsError(
            "InvalidParameterException",
            f"Invalid filter pattern '{stripped[:100]}': only words, \"phrases\", ?optional and -excluded ones are "
            "emulated.",
        )
    terms = [(sign, quoted or word) for sign, quoted, word in _TERM.findall(stripped)]
    needed = [text for sign, text in terms if not sign]
    either = [text for sign, text in terms if sign == "?"]
    excluded = [text for sign, text in terms if sign == "-"]

    def matches(message: str) -> bool:
        return (
            all(text in message for text in needed)
            and (not either or any(text in message for text in either))
            and not any(text in message for text in excluded)
        )

    return matches
