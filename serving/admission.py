"""A bounded number of requests at once; one more is told so immediately."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from serving.errors import RequestError

RETRY_AFTER_S = 1


class Admission:
    """Counts requests. It belongs to the event loop's thread alone, which is why its count needs no lock."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place for one request, from before its body is read: the places bound the memory of bodies, too.

        Raises:
            RequestError: 503, every place is taken.
        """
        if self.taken >= self.places:
            raise RequestError(
                503,
                "queue_full",
                f"All {self.places} places for requests are taken. Try again after {RETRY_AFTER_S} s.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
