"""Pipe mode: an augmented manifest's stream of images and labels, written once into class folders.

Source: Amazon SageMaker AI developer guide, "Augmented Manifest File Format for Pipe Mode Training": with
RecordWrapperType RecordIO and AttributeNames ["source-ref", "class"], the FIFO <channel>_<epoch> carries a record of
the image's bytes, then a record of its label, and so on. Training reads every image many times in an order of its
own, so the stream of epoch 0 is kept on disk, and later epochs are not asked for.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kennel.contract.errors import DataError
from kennel.contract.manifest import parse_label
from kennel.contract.recordio import RecordError, read_records

_LOG = logging.getLogger(__name__)
_BUFFER_BYTES = 1 << 20
_LABEL_BYTES = 4096  # a name, or Ground Truth's metadata; an image may be smaller, but is not text
_WHAT_TO_USE = (
    "For Pipe mode use S3DataType AugmentedManifestFile with RecordWrapperType RecordIO and AttributeNames "
    "['source-ref', '<label>']; a prefix of images has no labels in a pipe, so use TrainingInputMode FastFile or File "
    "for it."
)
_WHAT_TO_SET = "Set RecordWrapperType to RecordIO for this channel."


def spool(fifo: Path, folder: Path, *, channel: str, record_wrapper: str) -> Path:
    """Read a channel's FIFO to its end and write every image to `folder`/<class>/<number>.

    Blocks until the platform opens the other end. What an earlier attempt left in `folder` is removed first.

    Args:
        fifo: the pipe of epoch 0.
        folder: gets the class folders; takes as much space as the images.
        channel: the name that messages use.
        record_wrapper: the channel's RecordWrapperType.

    Returns:
        `folder`, a channel of class folders.

    Raises:
        DataError: the stream is not pairs of an image and its label.
    """
    if record_wrapper != "RecordIO":
        raise DataError(
            f"Channel '{channel}' is in Pipe mode with RecordWrapperType {record_wrapper}: one stream of bytes without "
            f"names, labels or borders between images. {_WHAT_TO_USE}"
        )
    if not fifo.exists():
        raise DataError(f"Channel '{channel}' is in Pipe mode, but there is no {fifo}. {_WHAT_TO_USE}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    count = size_bytes = 0
    with fifo.open("rb", buffering=_BUFFER_BYTES) as stream:
        for image, class_name in read_pairs(stream, channel):
            target = folder / class_name
            target.mkdir(exist_ok=True)
            (target / f"{count:08}").write_bytes(image)
            count, size_bytes = count + 1, size_bytes + len(image)
    if count == 0:
        raise DataError(f"Channel '{channel}': {fifo} ended without a record. Is the augmented manifest empty?")
    _LOG.info("Channel %s: %d images, %.1f MB, read from the pipe into %s", channel, count, size_bytes / 1e6, folder)
    return folder


def read_pairs(stream: IO[bytes], channel: str) -> Iterator[tuple[bytes, str]]:
    """Each image's bytes with the name of its class.

    Raises:
        DataError: not RecordIO, not image and label in turn, or a label that names no class.
    """
    records = enumerate(_records(stream, channel), 1)
    for number, image in records:
        if _is_text(image):
            raise DataError(
                f"Channel '{channel}': record {number} should be an image, but is the text {_shown(image)}. "
                f"AttributeNames must be two, the image first. {_WHAT_TO_USE}"
            )
        number, label = next(records, (number + 1, None))  # noqa: PLW2901 - the pair's second half
        if label is None:
            raise DataError(
                f"Channel '{channel}': the pipe ends after {number - 1} records, with an image that has no label. "
                f"{_WHAT_TO_USE}"
            )
        if not _is_text(label):
            raise DataError(
                f"Channel '{channel}': record {number} should be a label, but is {len(label)} bytes that are not "
                f"text; this looks like a pipe of images alone. {_WHAT_TO_USE}"
            )
        try:
            yield image, parse_label(label.decode().strip())
        except DataError as error:
            raise DataError(f"Channel '{channel}': record {number}: {error}") from error


def _records(stream: IO[bytes], channel: str) -> Iterator[bytes]:
    try:
        yield from (record.data for record in read_records(stream))
    except RecordError as error:
        advice = "The delivery was cut short." if error.truncated else _WHAT_TO_SET
        raise DataError(f"Channel '{channel}': the pipe cannot be read as RecordIO: {error}. {advice}") from error


def _is_text(record: bytes) -> bool:
    if len(record) > _LABEL_BYTES:
        return False
    try:
        text = record.decode()
    except UnicodeDecodeError:
        return False
    return bool(text) and all(char.isprintable() or char.isspace() for char in text)


def _shown(record: bytes) -> str:
    return repr(record.decode()[:60])
