"""What a client did wrong, or must wait for, with its HTTP status."""

from __future__ import annotations

from collections.abc import Mapping


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        code: a name that programs can compare; it stays when the sentence is reworded.
        sentence: what was wrong, the value, and what to do.
        headers: headers that the answer needs, such as Retry-After.
    """

    def __init__(self, status: int, code: str, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.headers = dict(headers or {})

    def to_json(self) -> dict[str, str]:
        """The answer's body."""
        return {"error": self.sentence, "code": self.code}
