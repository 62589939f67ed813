"""A real FIFO, written by a process of its own, as the platform does."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kennel.classifier.data.folder import scan
from kennel.classifier.data.pipe import spool
from kennel.contract.errors import DataError
from kennel.contract.recordio import MAGIC

pytestmark = pytest.mark.pure

WRITER = """
import shutil, sys
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as fifo:
    try:
        shutil.copyfileobj(source, fifo)
    except BrokenPipeError:
        pass  # the reader has seen enough
"""
Deliver = Callable[[bytes], Path]


def record(data: bytes) -> bytes:
    return struct.pack("<II", MAGIC, len(data)) + data + b"\0" * (-len(data) % 4)


def pairs(photos: Path, label: str = "{}") -> bytes:
    """The stream of AttributeNames ["source-ref", "class"]."""
    return b"".join(
        record(path.read_bytes()) + record(label.replace("{}", path.parent.name).encode())
        for path in sorted(photos.rglob("*.jpg"))
    )


@pytest.fixture
def deliver(tmp_path: Path) -> Iterator[Deliver]:
    """Put bytes into the FIFO train_0 from a second process; checks that this process ends by itself."""
    writers: list[subprocess.Popen[bytes]] = []

    def start(stream: bytes) -> Path:
        source, fifo = tmp_path / "stream", tmp_path / "train_0"
        source.write_bytes(stream)
        os.mkfifo(fifo)
        writers.append(subprocess.Popen([sys.executable, "-c", WRITER, str(source), str(fifo)]))
        return fifo

    yield start
    for writer in writers:
        try:
            assert writer.wait(timeout=60) == 0
        finally:
            writer.kill()


def read(fifo: Path, folder: Path) -> Path:
    return spool(fifo, folder, channel="train", record_wrapper="RecordIO")


@pytest.mark.parametrize("label", ["{}", '"{}"', '{"class-name": "{}", "confidence": 1}'])
def test_a_pipe_gives_the_images_of_the_folders(photos: Path, tmp_path: Path, deliver: Deliver, label: str) -> None:
    folder = scan(read(deliver(pairs(photos, label)), tmp_path / "spool/train"))
    assert folder.classes == ("blue", "red")
    assert [s.digest for s in folder.samples] == [s.digest for s in scan(photos).samples]
    assert [s.target for s in folder.samples] == [s.target for s in scan(photos).samples]


def test_class_numbers_are_names(photos: Path, tmp_path: Path, deliver: Deliver) -> None:
    stream = pairs(photos).replace(record(b"blue"), record(b"0")).replace(record(b"red"), record(b"1"))
    assert scan(read(deliver(stream), tmp_path / "spool")).classes == ("0", "1")


def test_an_earlier_attempt_leaves_nothing_behind(photos: Path, tmp_path: Path, deliver: Deliver) -> None:
    (tmp_path / "spool/green").mkdir(parents=True)
    assert scan(read(deliver(pairs(photos)), tmp_path / "spool")).classes == ("blue", "red")


def test_a_broken_image_is_listed_and_the_rest_is_read(photos: Path, tmp_path: Path, deliver: Deliver) -> None:
    stream = record(b"\xff\xd8 broken") + record(b"red") + pairs(photos)
    folder = scan(read(deliver(stream), tmp_path / "spool"))
    assert len(folder) == 12
    assert [bad.path for bad in folder.bad] == [tmp_path / "spool/red/00000000"]


def jpeg(photos: Path) -> bytes:
    return (photos / "red/000.jpg").read_bytes()


def test_a_pipe_of_images_alone_says_what_to_use(photos: Path, tmp_path: Path, deliver: Deliver) -> None:
    fifo = deliver(record(jpeg(photos)) * 50)
    with pytest.raises(DataError, match="record 2 should be a label.*images alone.*use TrainingInputMode FastFile"):
        read(fifo, tmp_path / "spool")


def test_labels_before_images_say_how_to_order_them(photos: Path, tmp_path: Path, deliver: Deliver) -> None:
    fifo = deliver(record(b"red") + record(jpeg(photos)))
    with pytest.raises(DataError, match="record 1 should be an image, but is the text 'red'.*the image first"):
        read(fifo, tmp_path / "spool")


def test_three_attributes_are_refused(photos: Path, tmp_path: Path, deliver: Deliver) -> None:
    fifo = deliver((record(jpeg(photos)) + record(b"1") + record(b'{"class-name": "red"}')) * 2)
    with pytest.raises(DataError, match="record 3 should be an image.*AttributeNames must be two"):
        read(fifo, tmp_path / "spool")


def test_an_image_without_its_label_is_an_error(photos: Path, tmp_path: Path, deliver: Deliver) -> None:
    fifo = deliver(pairs(photos) + record(jpeg(photos)))
    with pytest.raises(DataError, match="ends after 25 records, with an image that has no label"):
        read(fifo, tmp_path / "spool")


def test_a_label_cannot_write_outside_the_spool(photos: Path, tmp_path: Path, deliver: Deliver) -> None:
    fifo = deliver(record(jpeg(photos)) + record(b'"../escaped"'))
    with pytest.raises(DataError, match="record 2: the class name .* cannot name a folder"):
        read(fifo, tmp_path / "spool")
    assert not (tmp_path / "escaped").exists()


def test_an_empty_pipe_is_an_error(tmp_path: Path, deliver: Deliver) -> None:
    fifo = deliver(b"")
    with pytest.raises(DataError, match="ended without a record"):
        read(fifo, tmp_path / "spool")


def test_without_recordio_nothing_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train_0")  # nobody writes: reading it would never end
    with pytest.raises(DataError, match="RecordWrapperType None.*AugmentedManifestFile.*TrainingInputMode FastFile"):
        spool(tmp_path / "train_0", tmp_path / "spool", channel="train", record_wrapper="None")


def test_a_pipe_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="in Pipe mode, but there is no .*train_0"):
        read(tmp_path / "train_0", tmp_path / "spool")
