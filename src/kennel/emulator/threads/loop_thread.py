"""An event loop in a thread of its own, for work that other threads hand over and wait for.

Whoever needs one makes it with the server and closes it with the server. A loop that is made when it is first wanted is
made twice by two threads that want it at once, and what belongs to one loop fails on the other.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_CANCEL_S = 5.0  # for what is cancelled to let go of its connections


class LoopClosedError(Exception):
    """The loop has ended, before the work or during it."""


class LoopThread:
    """One loop from its making to `close`. Methods may be called from any thread but its own."""

    def __init__(self, name: str, workers: int | None = None) -> None:
        """Start the thread; `workers` threads at most do what the loop gives away with `asyncio.to_thread`."""
        self._loop = asyncio.new_event_loop()
        if workers:
            self._loop.set_default_executor(ThreadPoolExecutor(workers, name))
        self._lock = threading.Lock()  # nothing is handed over behind the end, where nobody would ever answer
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name=name)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine.

        Raises:
            LoopClosedError: the loop has ended.
        """
        with self._lock:
            if self._is_closed:
                work.close()
                raise LoopClosedError(f"{self._thread.name} has ended")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine, and give what it gives.

        Raises:
            LoopClosedError: the loop has ended, or ends meanwhile.
        """
        future = self.submit(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:  # nobody but `close` cancels it
            raise LoopClosedError(f"{self._thread.name} has ended") from None

    def close(self) -> None:
        """Cancel what is under way, and end the thread. May be repeated."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            cancelled = asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop)
        cancelled.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_CANCEL_S)
    await asyncio.sleep(0)  # connections that were closed are taken apart in the next turn
