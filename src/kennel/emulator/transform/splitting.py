"""Cuts an object of a batch transform into the bodies of requests.

Sources: SageMaker API reference, TransformInput (SplitType) and CreateTransformJob (BatchStrategy, MaxPayloadInMB).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from kennel.contract.recordio import RecordError, read_records

NO_SPLIT, LINE, RECORD_IO = "None", "Line", "RecordIO"
SINGLE, MULTI = "SingleRecord", "MultiRecord"


class SplitError(ValueError):
    """An object cannot be cut as it was asked for. The message says why, and what to do."""


@dataclass(frozen=True)
class Splitting:
    """How objects become requests."""

    split: str  # None, Line or RecordIO
    strategy: str  # SingleRecord or MultiRecord
    payload_bytes: int  # the most that a request may have

    def payloads(self, stream: IO[bytes]) -> Iterator[bytes]:
        """The bodies of the requests for one object, in its order.

        Without a split it is the whole object. Lines come without the newline at the end, and empty ones not at all.
        Of RecordIO a single record comes as its data alone, several as they lie in the object, with frame and padding.

        Raises:
            SplitError: a record is larger than a request may be, or the object is none of the format.
        """
        if self.split == NO_SPLIT:
            return iter([self._whole(stream)])
        if self.split == LINE:
            lines = _lines(stream, self.payload_bytes)
            return lines if self.strategy == SINGLE else _filled(lines, b"\n", self.payload_bytes)
        records = self._records(stream)
        return records if self.strategy == SINGLE else _filled(records, b"", self.payload_bytes)

    def _whole(self, stream: IO[bytes]) -> bytes:
        found = b"".join(_blocks(stream, self.payload_bytes + 1))
        if len(found) > self.payload_bytes:
            raise SplitError(
                f"it has more than {self.payload_bytes} bytes, which is all that MaxPayloadInMB allows. Raise it (100 "
                "at most), or split the object with SplitType."
            )
        return found

    def _records(self, stream: IO[bytes]) -> Iterator[bytes]:
        try:
            for record in read_records(stream, self.payload_bytes):
                yield record.data if self.strategy == SINGLE else record.framed
        except RecordError as error:
            raise SplitError(f"it cannot be split as RecordIO: {error}. Correct the object, or SplitType.") from error


def _blocks(stream: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    """What a stream has, up to a size: a stream may give less at once than it was asked for."""
    while size_bytes and (block := stream.read(size_bytes)):
        size_bytes -= len(block)
        yield block


def _lines(stream: IO[bytes], limit_bytes: int) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(limit_bytes + 2):
        number += 1
        text = line.removesuffix(b"\n")
        if len(text) > limit_bytes:
            raise SplitError(
                f"line {number} has more than {limit_bytes} bytes, which is all that MaxPayloadInMB allows. Raise it "
                "(100 at most), or shorten the line."
            )
        if text.strip(b"\r"):
            yield text


def _filled(records: Iterator[bytes], joint: bytes, limit_bytes: int) -> Iterator[bytes]:
    """As many records at once as there is room for."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        if batch and size + len(joint) + len(record) > limit_bytes:
            yield joint.join(batch)
            batch, size = [], 0
        size += len(record) + (len(joint) if batch else 0)
        batch.append(record)
    if batch:
        yield joint.join(batch)
