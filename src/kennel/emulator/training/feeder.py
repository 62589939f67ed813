"""Feeds the pipes of a host: `python -m kennel.emulator.training.feeder FILE`.

It is a process of its own, so that a stream that has begun goes on when the emulator does not.

The pipe of an epoch appears before that of the epoch before it ends, since a program opens it as soon as it has read
the other (SageMaker developer guide, "How Amazon SageMaker Provides Training Information", Pipe mode).
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from kennel.contract.recordio import record
from kennel.emulator.training.channels import AUGMENTED, Channel
from kennel.emulator.training.inputs import list_items, named_by, read_augmented, shuffled
from kennel.storage import StorageError, Uri, storage_of

_BLOCK_BYTES = 1 << 20
_REFERENCE = "-ref"  # an attribute of this ending is sent as the bytes of what it names


@dataclass(frozen=True)
class Feed:
    """A channel and the pipes that it flows through."""

    channel: Channel
    pipe: str  # the path of the first epoch's, without its number
    rank: int
    hosts: int


def write_feeds(feeds: list[Feed], file: Path) -> None:
    """Leave for the feeder what it is to do, and make the first pipes."""
    for feed in feeds:
        make_pipe(feed, 0)
    file.write_text(json.dumps([asdict(feed) for feed in feeds]), encoding="utf-8")


def make_pipe(feed: Feed, epoch: int) -> Path:
    """The pipe of an epoch; one that is there stays."""
    path = Path(f"{feed.pipe}{epoch}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_fifo():
        os.mkfifo(path)
        path.chmod(0o666)  # whoever the image's user is
    return path


def _read_feeds(file: Path) -> Iterator[Feed]:
    for entry in json.loads(file.read_text(encoding="utf-8")):
        channel = entry["channel"] | {"uri": Uri(**entry["channel"]["uri"])}
        yield Feed(Channel(**channel), entry["pipe"], entry["rank"], entry["hosts"])


def pump(feed: Feed) -> None:
    """Fill one pipe after the other; ends only with the process."""
    epoch = 0
    while True:
        with make_pipe(feed, epoch).open("wb", buffering=0) as pipe:  # waits until the program opens it
            make_pipe(feed, epoch + 1)
            try:
                for block in _stream(feed, epoch):
                    _write_all(pipe, block)
            except BrokenPipeError:
                pass  # the program has read enough
        epoch += 1


def _write_all(pipe: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[pipe.write(view) :]


def _stream(feed: Feed, epoch: int) -> Iterator[bytes]:
    channel = feed.channel
    everything: list[Any] = read_augmented(channel) if channel.data_type == AUGMENTED else list_items(channel)
    ordered = shuffled(everything, channel, epoch)
    for entry in ordered[feed.rank :: feed.hosts] if channel.is_sharded else ordered:
        yield from _line(entry, channel) if channel.data_type == AUGMENTED else _item(entry.uri, channel)


def _line(line: dict[str, Any], channel: Channel) -> Iterator[bytes]:
    for name in channel.attributes:
        value = line[name]
        if name.endswith(_REFERENCE):
            yield from _item(named_by(channel.uri, str(value)), channel)
            continue
        data = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
        yield record(data) if channel.record_wrapper == "RecordIO" else data


def _item(uri: Uri, channel: Channel) -> Iterator[bytes]:
    """The bytes of one file or object; a record is known only when it has been read."""
    with storage_of(uri).open(uri) as raw:
        stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if channel.compression == "Gzip" else raw  # type: ignore[assignment]
        if channel.record_wrapper == "RecordIO":
            yield record(stream.read())
            return
        while block := stream.read(_BLOCK_BYTES):
            yield block


def main(file: Path) -> int:
    """Feed until killed; a channel that fails ends all, with the reason on stderr."""
    failed: list[str] = []
    ended = threading.Event()

    def run(feed: Feed) -> None:
        try:
            pump(feed)
        except (StorageError, OSError, ValueError, EOFError) as error:
            failed.append(f"Channel '{feed.channel.name}': {error}")
            ended.set()

    for feed in _read_feeds(file):
        threading.Thread(target=run, args=(feed,), daemon=True).start()
    ended.wait()
    sys.stderr.write("\n".join(failed) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
