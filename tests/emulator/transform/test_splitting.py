"""Objects become requests, and answers become objects again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kennel.contract.recordio import record
from kennel.emulator.transform.assembling import Assembly, output_uri
from kennel.emulator.transform.splitting import SplitError, Splitting
from kennel.storage import StorageError

pytestmark = pytest.mark.pure

MAGIC = b"\x0a\x23\xd7\xce"


class Slow(io.BytesIO):
    """A stream that gives a few bytes at once, as a network does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 5) if size and size > 0 else size)


def cut(data: bytes, split: str = "Line", strategy: str = "MultiRecord", payload_bytes: int = 100) -> list[bytes]:
    return list(Splitting(split, strategy, payload_bytes).payloads(Slow(data)))


def test_an_object_that_is_not_split_is_one_request() -> None:
    assert cut(b"a\nb\n", "None") == [b"a\nb\n"]
    assert cut(b"", "None") == [b""]
    assert cut(b"x" * 100, "None") == [b"x" * 100]
    with pytest.raises(SplitError, match="more than 100 bytes.*MaxPayloadInMB"):
        cut(b"x" * 101, "None")


def test_a_single_line_is_a_request_without_its_newline() -> None:
    assert cut(b"a\nbb\r\n\n\r\nccc", strategy="SingleRecord") == [b"a", b"bb\r", b"ccc"]


def test_lines_fill_a_request_up_to_the_payload_and_not_one_byte_more() -> None:
    assert cut(b"aaa\nbbb\nccc\n", payload_bytes=7) == [b"aaa\nbbb", b"ccc"]
    assert cut(b"aaa\nbbb\nccc\n", payload_bytes=6) == [b"aaa", b"bbb", b"ccc"]
    assert cut(b"aaa\nbbb\nccc\n", payload_bytes=11) == [b"aaa\nbbb\nccc"]
    assert cut(b"") == []


def test_a_line_of_the_largest_size_fits_and_a_larger_one_is_named() -> None:
    assert cut(b"x" * 10 + b"\n" + b"y" * 10, payload_bytes=10) == [b"x" * 10, b"y" * 10]
    with pytest.raises(SplitError, match="line 2 has more than 10 bytes"):
        cut(b"a\n" + b"x" * 11 + b"\nb", payload_bytes=10)


@pytest.mark.parametrize("data", [b"", b"x", b"four", MAGIC, b"1234" + MAGIC + b"5", MAGIC + MAGIC, b"123" + MAGIC])
def test_a_single_record_of_recordio_loses_its_frame_and_padding(data: bytes) -> None:
    assert cut(record(data) + record(b"end"), "RecordIO", "SingleRecord") == [data, b"end"]


def test_several_records_of_recordio_keep_their_frames() -> None:
    whole = [record(b"abc"), record(b"12345"), record(b"z")]  # 12, 16 and 12 bytes
    assert cut(b"".join(whole), "RecordIO", payload_bytes=28) == [whole[0] + whole[1], whole[2]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no recordio at all", "byte 0 starts with 6e6f2072, not 0a23d7ce"),
        (record(b"abc")[:-1], "ends inside the record that begins at byte 0"),
        (record(b"abc") + b"\x0a\x23", "ends inside the record that begins at byte 12"),
        (record(b"1234" + MAGIC + b"5")[:12], "ends after a part of a record, at byte 12"),
        (record(b"x" * 200), "more than 100 bytes"),
    ],
)
def test_what_is_no_recordio_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(SplitError, match=words):
        cut(data, "RecordIO")


def test_answers_are_put_together_with_or_without_newlines(tmp_path: Path) -> None:
    for how, wanted in (("Line", b"a\nb\n\nc\n"), ("None", b"ab\nc")):
        assembly = Assembly(tmp_path / "answers", how)
        answers = (b"a", b"b\n", b"", b"c") if how == "Line" else (b"a", b"b\n", b"c")
        for answer in answers:
            assembly.add(answer)
        assembly.close()
        assert assembly.file.read_bytes() == wanted
        assembly.discard()
        assert not assembly.file.exists()


def test_an_output_is_named_after_its_input_and_stays_below_the_output_path() -> None:
    assert str(output_uri("s3://bucket/out/", "a/b.jpg")) == "s3://bucket/out/a/b.jpg.out"
    assert str(output_uri("file:///data/out", "a b.jpg")) == "file:///data/out/a%20b.jpg.out"
    with pytest.raises(StorageError, match="no path below a folder"):
        output_uri("file:///data/out", "../b.jpg")
