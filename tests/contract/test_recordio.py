import io
import struct

import pytest

from kennel.contract.recordio import MAGIC, RecordError, read_records

pytestmark = pytest.mark.pure


def part(data: bytes, flag: int = 0) -> bytes:
    return struct.pack("<II", MAGIC, flag << 29 | len(data)) + data + b"\0" * (-len(data) % 4)


def read(data: bytes) -> list[bytes]:
    return [record.data for record in read_records(io.BytesIO(data))]


@pytest.mark.parametrize("size", range(9))
def test_padding_is_not_part_of_a_record(size: int) -> None:
    data = bytes(range(1, size + 1))
    assert read(part(data) + part(b"next")) == [data, b"next"]


def test_a_record_that_holds_the_magic_number_is_put_together_with_it() -> None:
    magic = struct.pack("<I", MAGIC)
    assert read(part(b"abcd", 1) + part(b"efgh", 2) + part(b"ij", 3) + part(b"x")) == [
        b"abcd" + magic + b"efgh" + magic + b"ij",
        b"x",
    ]


def test_the_layout_is_that_of_mxnet() -> None:
    """Bytes as mxnet.recordio.MXRecordIO.write(b'hello') leaves them in a file."""
    assert read(bytes.fromhex("0a23d7ce 05000000 68656c6c 6f000000")) == [b"hello"]


def test_an_empty_stream_has_no_records() -> None:
    assert read(b"") == []


@pytest.mark.parametrize("kept", [3, 8, 11, 14])
def test_a_stream_that_is_cut_short_is_an_error(kept: int) -> None:
    with pytest.raises(RecordError, match="ends inside the record that begins at byte 12"):
        read(part(b"abcd") + part(b"efghij")[:kept])


def test_a_record_without_its_last_part_is_an_error() -> None:
    with pytest.raises(RecordError, match="ends after a part of a record, at byte 12"):
        read(part(b"abcd", 1))


@pytest.mark.parametrize(("stream", "flag"), [(part(b"", 3), 3), (part(b"a", 1) + part(b"b"), 0), (part(b"", 5), 5)])
def test_parts_out_of_turn_are_an_error(stream: bytes, flag: int) -> None:
    with pytest.raises(RecordError, match=f"has flag {flag}"):
        read(stream)


def test_other_bytes_are_an_error() -> None:
    with pytest.raises(RecordError, match="byte 0 starts with ffd8ffe0, not 0a23d7ce"):
        read(bytes.fromhex("ffd8ffe000104a4649460001"))
