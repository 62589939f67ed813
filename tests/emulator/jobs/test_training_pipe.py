"""Pipe mode: a FIFO for each epoch, records as RecordIO, augmented manifests, shuffling, shards, Gzip."""

from __future__ import annotations

import ast
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from kennel.contract.recordio import MAGIC, read_records, record
from tests.emulator.jobs.conftest import Platform, both, channel

READ = (
    "def read(epoch, name='c'): return open(base / f'input/data/{name}_{epoch}', 'rb').read()\n"
    "def records(data):\n"
    "    import struct; out = []\n"
    "    while data:\n"
    "        magic, word = struct.unpack('<II', data[:8]); assert magic == 0xced7230a, data[:8]\n"
    "        n = word & 0x1fffffff; out.append(data[8:8+n].decode()); data = data[8 + n + -n % 4:]\n"
    "    return out\n"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in "abcdef":
        (folder / name).write_text(name * 3)
    return folder


def pipe(data: Path, **changes: Any) -> list[dict[str, Any]]:
    return [channel("c", data.as_uri(), InputMode="Pipe", **changes)]


@both
def test_every_epoch_has_a_pipe_with_all_files_in_order(platform: Platform, data: Path) -> None:
    platform.complete(READ + "for e in range(3): print(read(e).decode())", InputDataConfig=pipe(data))
    assert platform.lines() == ["aaabbbcccdddeeefff"] * 3


@both
def test_recordio_wraps_every_file(platform: Platform, data: Path) -> None:
    channels = pipe(data, RecordWrapperType="RecordIO")
    platform.complete(READ + "print(records(read(0)))", InputDataConfig=channels)
    assert ast.literal_eval(platform.lines()[0]) == [name * 3 for name in "abcdef"]


@both
def test_an_augmented_manifest_is_streamed_attribute_by_attribute(platform: Platform, data: Path) -> None:
    manifest = data / "labels.manifest"
    lines = [
        {"source-ref": (data / name).as_uri(), "label": label, "more": 1} for name, label in (("a", 7), ("b", "x y"))
    ]
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\n")
    source = {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["source-ref", "label"]}
    channels = [channel("c", manifest.as_uri(), InputMode="Pipe", RecordWrapperType="RecordIO", source=source)]
    platform.complete(READ + "print(records(read(0)))", InputDataConfig=channels)
    assert ast.literal_eval(platform.lines()[0]) == ["aaa", "7", "bbb", "x y"]


def test_shuffle_config_gives_each_epoch_an_order_that_the_seed_decides(platform: Platform, data: Path) -> None:
    program = READ + "for e in range(4): print(read(e)[::3].decode())"
    platform.complete(program, "one", InputDataConfig=pipe(data, ShuffleConfig={"Seed": 1}))
    platform.complete(program, "again", InputDataConfig=pipe(data, ShuffleConfig={"Seed": 1}))
    platform.complete(program, "two", InputDataConfig=pipe(data, ShuffleConfig={"Seed": 2}))
    assert platform.lines("one") == platform.lines("again")
    assert platform.lines("one") != platform.lines("two")
    assert len(set(platform.lines("one"))) > 1
    assert all(sorted(line) == list("abcdef") for line in platform.lines("one"))


def test_shards_part_a_pipe_among_the_hosts(platform: Platform, data: Path) -> None:
    source = {"S3DataDistributionType": "ShardedByS3Key"}
    platform.complete(
        READ + "print(read(0)[::3].decode())",
        InputDataConfig=pipe(data, source=source),
        ResourceConfig={"InstanceCount": 2},
    )
    assert platform.lines(host="algo-1") == ["ace"]
    assert platform.lines(host="algo-2") == ["bdf"]


def test_gzip_is_unpacked_on_the_way(platform: Platform, data: Path) -> None:
    for path in data.iterdir():
        path.write_bytes(gzip.compress(path.read_bytes()))
    platform.complete(READ + "print(read(0).decode())", InputDataConfig=pipe(data, CompressionType="Gzip"))
    assert platform.lines() == ["aaabbbcccdddeeefff"]


def test_a_program_may_close_a_pipe_early_and_open_the_next(platform: Platform, data: Path) -> None:
    (data / "large").write_bytes(b"x" * (1 << 22))
    program = (
        "for e in range(2):\n"
        "    with open(base / f'input/data/c_{e}', 'rb') as p: print(p.read(3).decode())\n"
        "print('done')"
    )
    platform.complete(program, InputDataConfig=pipe(data))
    assert platform.lines() == ["aaa", "aaa", "done"]


def test_data_that_cannot_be_read_fails_the_job(platform: Platform, data: Path) -> None:
    manifest = data / "labels.manifest"
    manifest.write_text('{"source-ref": "s3://b/k"}\n')
    source = {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["source-ref", "label"]}
    channels = [channel("c", manifest.as_uri(), InputMode="Pipe", source=source)]
    document = platform.run(READ + "read(0); time.sleep(60)", InputDataConfig=channels)
    assert document["TrainingJobStatus"] == "Failed"
    assert "line 1 lacks label, which AttributeNames asks for" in document["FailureReason"]


@pytest.mark.parametrize("spread", [b"", b"abc", b"abcd", b"0123" * 5])
def test_records_that_contain_the_magic_number_come_back_whole(spread: bytes) -> None:
    magic = MAGIC.to_bytes(4, "little")
    written = [b"", b"x", magic, magic * 3, spread + magic + spread, magic + spread, spread + magic, b"ab" + magic]
    stream = io.BytesIO(b"".join(map(record, written)))
    assert [each.data for each in read_records(stream)] == written
