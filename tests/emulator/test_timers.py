"""Calls that are due later."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from kennel.emulator.state.shortages import LeavingError
from kennel.emulator.threads.timers import Timers


@pytest.fixture
def timers() -> Iterator[Timers]:
    made = Timers()
    yield made
    made.close(30)


def test_calls_come_in_the_order_in_which_they_are_due(timers: Timers) -> None:
    came: list[str] = []
    last = threading.Event()
    timers.after(0.2, last.set)
    timers.after(0.1, lambda: came.append("second"))
    timers.after(0, lambda: came.append("first"))
    assert last.wait(30)
    assert came == ["first", "second"]


def test_none_comes_before_it_is_due(timers: Timers) -> None:
    came = threading.Event()
    begin = time.monotonic()
    timers.after(0.3, came.set)
    assert came.wait(30)
    assert time.monotonic() - begin >= 0.3


def test_a_call_that_fails_is_logged_and_the_next_one_comes(timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    came = threading.Event()
    timers.after(0, lambda: 1 / 0)
    timers.after(0, came.set)
    assert came.wait(30)
    assert "ZeroDivisionError" in caplog.text


def test_a_call_may_ask_for_another(timers: Timers) -> None:
    came = threading.Event()
    timers.after(0, lambda: timers.after(0, came.set))
    assert came.wait(30)


def test_after_the_end_nothing_is_called_and_the_thread_is_gone() -> None:
    timers = Timers()
    came = threading.Event()
    timers.after(0.05, came.set)
    timers.close(30)
    timers.close(30)  # may be repeated
    timers.after(0, came.set)
    assert not timers._thread.is_alive()
    assert not came.wait(0.1)


def test_a_call_that_meets_the_end_of_the_server_ends_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    def leave() -> None:
        raise LeavingError

    timers = Timers()
    timers.after(0, leave)
    timers._thread.join(30)
    assert not timers._thread.is_alive()
    assert not caplog.text


def test_a_timer_that_is_far_away_does_not_keep_a_close_waiting() -> None:
    timers = Timers()
    timers.after(3600, lambda: None)
    begin = time.monotonic()
    timers.close(30)
    assert time.monotonic() - begin < 10


def test_a_close_waits_only_so_long_for_a_call_that_hangs() -> None:
    begun, rest = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        rest.wait(60)

    timers = Timers()
    timers.after(0, hang)
    assert begun.wait(30)
    begin = time.monotonic()
    timers.close(0.1)
    assert time.monotonic() - begin < 30
    assert timers._thread.is_alive()
    rest.set()
    timers._thread.join(30)
    assert not timers._thread.is_alive()
