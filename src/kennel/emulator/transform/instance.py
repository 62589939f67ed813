"""One instance of a batch transform job: its share of the objects, sent to its container and written as they are done.

Requests are made in the order of objects and records, a few ahead of the answers, and answers are put down in that
order; so any mixture of large and small objects keeps the container busy, with little in memory.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from kennel.emulator.state.shortages import passes, told
from kennel.emulator.transform.assembling import Assembly, output_uri
from kennel.emulator.transform.client import InvocationError, TransformClient
from kennel.emulator.transform.data_processing import RecordError
from kennel.emulator.transform.ledger import Ledger
from kennel.emulator.transform.settings import TransformSettings
from kennel.emulator.transform.splitting import SplitError, Splitting
from kennel.storage import FILE, Item, StorageError, fetch, storage_of

_AHEAD = 2  # requests for each that may be under way: made, waiting, or answered and not put down yet
_DATA_ERRORS = (StorageError, SplitError, OSError, EOFError, zlib.error)
_CHECK_S = 0.2


class EndedError(Exception):
    """The container has ended, and with it the job. The message says how."""


@dataclass
class _Work:
    """One object on its way."""

    item: Item
    assembly: Assembly
    failure: str | None = None


_Entry = tuple[_Work, "Future[bytes] | None"]  # a request of an object, or its end


class TransformInstance:
    """Sends objects to one container."""

    def __init__(
        self,
        client: TransformClient,
        *,
        settings: TransformSettings,
        splitting: Splitting,
        concurrent: int,
        ledger: Ledger,
        scratch: Path,
        report: Callable[[str], None],
    ) -> None:
        """`scratch` is its own folder for what is half done; `report` is told every object that fails."""
        self._client = client
        self._settings = settings
        self._splitting = splitting
        self._concurrent = concurrent
        self._ledger = ledger
        self._scratch = scratch
        self._report = report

    def run(self, items: Sequence[Item], check: Callable[[], None]) -> None:
        """Until every object is in the ledger. `check` is called often, and ends it by an exception.

        Raises:
            EndedError: the container has ended.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        window: deque[_Entry] = deque()
        pool = ThreadPoolExecutor(self._concurrent)
        try:
            for entry in self._entries(items, pool):
                check()
                window.append(entry)
                if len(window) >= _AHEAD * self._concurrent:
                    self._settle_first(window, check)
            while window:
                self._settle_first(window, check)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for work, _ in window:
                work.assembly.discard()

    def _entries(self, items: Sequence[Item], pool: ThreadPoolExecutor) -> Iterator[_Entry]:
        for number, item in enumerate(items):
            work = _Work(item, Assembly(self._scratch / f"{number}.out", self._settings.assemble_with))
            try:
                with self._open(item, number) as stream:
                    for payload in self._splitting.payloads(stream):
                        if work.failure:
                            break
                        yield work, pool.submit(self._ask, payload)
            except _DATA_ERRORS as error:
                work.failure = work.failure or self._reason(error)
            yield work, None

    @contextlib.contextmanager
    def _open(self, item: Item, number: int) -> Iterator[IO[bytes]]:
        """An object's bytes, unpacked. One of S3 is fetched first: a connection would not outlast slow answers."""
        is_here = item.uri.scheme == FILE
        local = item.uri.file if is_here else fetch(Item(item.uri, f"{number}.in", item.size_bytes), self._scratch)
        try:
            with local.open("rb") as packed:
                yield cast(IO[bytes], gzip.GzipFile(fileobj=packed)) if self._settings.is_gzip else packed
        finally:
            if not is_here:
                local.unlink(missing_ok=True)

    def _ask(self, payload: bytes) -> bytes:
        processing = self._settings.processing
        if processing is None:
            return self._client.invoke(payload)
        return processing.after(payload, self._client.invoke(processing.before(payload)))

    def _settle_first(self, window: deque[_Entry], check: Callable[[], None]) -> None:
        """Wait for the first answer, as long as somebody wants it."""
        _, request = window[0]
        check()
        while request and not wait([request], _CHECK_S).done:
            check()
        self._settle(*window.popleft())

    def _settle(self, work: _Work, request: Future[bytes] | None) -> None:
        """Put an answer down, or an object's end."""
        if request is None:
            self._end(work)
            return
        if work.failure:
            request.cancel()
            return
        try:
            work.assembly.add(request.result())
        except (RecordError, OSError) as error:
            work.failure = self._reason(error)
        except InvocationError as error:
            if passes(error):
                raise
            ended = self._client.ended()
            if ended:
                raise EndedError(f"'{work.item.name}': {error}. {ended}") from error
            work.failure = f"AlgorithmError: {error}"

    def _end(self, work: _Work) -> None:
        name = work.item.name
        try:
            work.assembly.close()
            if not work.failure:
                target = output_uri(self._settings.output_path, name)
                storage_of(target).put(work.assembly.file, target)
        except (StorageError, OSError) as error:
            work.failure = work.failure or self._reason(error)
        finally:
            work.assembly.discard()
        if work.failure:
            self._report(f"'{name}': {work.failure}")
        self._ledger.note(name, work.failure)

    def _reason(self, error: Exception) -> str:
        """Why an object fails; what others give back does not fail it, but begins the job's life anew.

        Raises:
            Exception: the error, if it passes.
        """
        if passes(error):
            raise error
        return told(f"ClientError: {str(error) or type(error).__name__}", error, self._scratch)
