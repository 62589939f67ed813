"""One event loop for many threads, from its making to its end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kennel.emulator.threads.loop_thread import LoopClosedError, LoopThread

THREADS = 16


async def _running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_threads_that_come_at_once_to_a_fresh_one_meet_in_one_loop() -> None:
    for _ in range(50):
        loop, gate = LoopThread("test"), threading.Barrier(THREADS)

        def ask(_: int, loop: LoopThread = loop, gate: threading.Barrier = gate) -> asyncio.AbstractEventLoop:
            gate.wait(60)
            return loop.run(_running())

        with ThreadPoolExecutor(THREADS) as pool:
            found = set(pool.map(ask, range(THREADS)))
        loop.close()
        assert len(found) == 1


def test_whoever_waits_when_it_ends_is_told_so_and_nobody_is_taken_in_afterwards() -> None:
    loop, begun = LoopThread("test"), threading.Semaphore(0)

    async def work() -> None:
        begun.release()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(loop.run, work()) for _ in range(THREADS)]
        for _ in waiting:
            assert begun.acquire(timeout=60)
        loop.close()
        assert [type(one.exception(60)) for one in waiting] == [LoopClosedError] * THREADS
    loop.close()
    with pytest.raises(LoopClosedError, match="test has ended"):
        loop.run(_running())


def test_nobody_waits_for_ever_who_comes_while_it_ends() -> None:
    for _ in range(50):
        loop, gate = LoopThread("test"), threading.Barrier(THREADS + 1)

        def ask(_: int, loop: LoopThread = loop, gate: threading.Barrier = gate) -> bool:
            gate.wait(60)
            try:
                return loop.run(_running()) is not None
            except LoopClosedError:
                return False

        with ThreadPoolExecutor(THREADS) as pool:
            asked = [pool.submit(ask, number) for number in range(THREADS)]
            gate.wait(60)
            loop.close()
            for one in asked:
                one.result(60)


def test_what_work_raises_is_raised_to_whoever_waits() -> None:
    loop = LoopThread("test")

    async def fail() -> None:
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        loop.run(fail())
    loop.close()
