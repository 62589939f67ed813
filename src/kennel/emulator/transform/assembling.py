"""Puts the answers for one object of a batch transform together again.

Source: SageMaker API reference, TransformOutput (AssembleWith, S3OutputPath).
"""

from __future__ import annotations

from pathlib import Path

from kennel.storage import Uri, safe_name

LINE = "Line"
_SUFFIX = ".out"


class Assembly:
    """A file of answers in the order in which they were added."""

    def __init__(self, file: Path, assemble_with: str) -> None:
        """Begin an empty file; `assemble_with` is None (nothing between answers) or Line (each ends its line)."""
        self.file = file
        self._line = assemble_with == LINE
        self._stream = file.open("wb")

    def add(self, answer: bytes) -> None:
        """Append an answer. With Line it ends with a newline, its own where it brings one."""
        self._stream.write(answer)
        if self._line and not answer.endswith(b"\n"):
            self._stream.write(b"\n")

    def close(self) -> None:
        """Everything is in the file now. May be repeated."""
        self._stream.close()

    def discard(self) -> None:
        """The file is not wanted."""
        self.close()
        self.file.unlink(missing_ok=True)


def output_uri(output_path: str, name: str) -> Uri:
    """Where the answers for an object go: its path below the input's prefix, with .out.

    Raises:
        StorageError: the name leads out of the output's folder.
    """
    place = Uri.parse(output_path)
    return place.join(safe_name(name, place) + _SUFFIX)
