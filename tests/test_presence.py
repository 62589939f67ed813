"""The lock of a home, and the proof that an answer comes from whoever holds it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kennel.contract.presence import HeldError, Holder, Process, hold, holder, introduction, is_proven, start_time

CHALLENGE = "0123456789abcdef" * 2
HOLD = "import pathlib, sys; from kennel.contract.presence import hold; "
HOLD += "h = hold(pathlib.Path(sys.argv[1])); h.__enter__(); "


@contextlib.contextmanager
def holding(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    code = HOLD + "print('held', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_lock_that_nobody_holds_says_nothing_whatever_it_contains(tmp_path: Path) -> None:
    lock = tmp_path / "emulator.lock"
    assert holder(lock) is None
    assert not lock.exists(), "to look leaves no trace"
    lock.write_text(json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
    assert holder(lock) is None


def test_a_held_lock_names_its_holder_until_that_one_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "emulator.lock"
    with holding(lock) as other:
        found = holder(lock)
        assert found is not None
        assert found.process is not None
        assert (found.process.pid, found.process.is_alive) == (other.pid, True)
        with pytest.raises(HeldError), hold(lock):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait(60)
        assert holder(lock) is None
        assert not found.process.is_alive
    with hold(lock):
        assert holder(lock) == Holder(Process.own())


def test_a_link_leads_to_the_same_lock_and_a_copy_does_not(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    with hold(tmp_path / "home/emulator.lock"):
        (tmp_path / "copy").write_bytes((tmp_path / "home/emulator.lock").read_bytes())
        assert holder(tmp_path / "link/emulator.lock") == Holder(Process.own())
        assert holder(tmp_path / "copy") is None


def test_what_an_earlier_holder_wrote_names_nobody(tmp_path: Path) -> None:
    """A number that was given to another program is told by the start time, one of an earlier boot by the boot."""
    lock = tmp_path / "emulator.lock"
    own = Process.own()
    boot, _, ticks = own.started.rpartition(" ")
    with hold(lock):
        for started in (f"{boot} {int(ticks) + 1}", f"another-boot {ticks}", ""):
            lock.write_text(json.dumps({"pid": own.pid, "started": started}))
            assert holder(lock) == Holder(None)
        for text in ("", "{", "[]", '{"pid": "x"}', "\0"):
            lock.write_text(text)
            assert holder(lock) == Holder(None)


def test_what_version_0_1_noted_without_its_boot_is_still_the_same_process() -> None:
    own = Process.own()
    assert Process(own.pid, own.started.rpartition(" ")[2]).is_alive


def test_whoever_looks_keeps_no_server_from_beginning(tmp_path: Path) -> None:
    lock, over = tmp_path / "emulator.lock", threading.Event()
    lock.touch()

    def look() -> None:
        while not over.is_set():
            holder(lock)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            with hold(lock):
                pass
    finally:
        over.set()
        for thread in threads:
            thread.join(60)


def test_an_answer_is_proven_for_one_challenge_key_process_and_port_only(tmp_path: Path) -> None:
    own = Process.own()
    answer = introduction(CHALLENGE, "secret", tmp_path, 4321)
    assert answer["home"] == str(tmp_path)
    assert is_proven(answer, CHALLENGE, "secret", own, 4321)
    assert not is_proven(answer, "f" * 32, "secret", own, 4321), "an answer that was heard before"
    assert not is_proven(answer, CHALLENGE, "other", own, 4321), "another home's server"
    assert not is_proven(answer, CHALLENGE, "secret", Process(1, ""), 4321), "not who holds the lock"
    assert not is_proven(answer, CHALLENGE, "secret", own, 4322), "an answer that was handed on"
    assert not is_proven({**answer, "home": "/other"}, CHALLENGE, "secret", own, 4321)
    for broken in ({}, {"pid": own.pid}, {**answer, "proof": None}, {**answer, "proof": "é"}, {**answer, "pid": "1"}):
        assert not is_proven(broken, CHALLENGE, "secret", own, 4321)


@pytest.mark.parametrize("text", ["", "x", CHALLENGE[1:], CHALLENGE + "0", CHALLENGE.upper(), CHALLENGE + "\n"])
def test_a_strangers_text_is_not_signed(tmp_path: Path, text: str) -> None:
    assert introduction(text, "secret", tmp_path, 4321) == {}
