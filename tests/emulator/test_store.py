import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from kennel.emulator.state.store import Document, ExistsError, MissingError, Store


def add_one(document: Document) -> None:
    document["count"] += 1


def count(file: Path, times: int) -> None:
    store = Store(file)
    for _ in range(times):
        store.update("job", "a", add_one)


def test_two_processes_lose_no_change_of_each_other(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    Store(file).insert("job", "a", 1.0, {"count": 0})
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=count, args=(file, 200)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert Store(file).get("job", "a") == {"count": 400}


def test_a_kill_in_the_middle_leaves_a_whole_document(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    store = Store(file)
    store.insert("job", "a", 1.0, {"count": 0})
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=count, args=(file, 10**9))
    process.start()
    while store.get("job", "a")["count"] < 20:
        assert process.is_alive()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    before = Store(file).get("job", "a")["count"]
    assert before >= 20
    assert store.update("job", "a", add_one)["count"] == before + 1


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.insert("job", "a", 1.0, {"count": 0})

    def half(document: Document) -> None:
        document["count"] = 5
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.update("job", "a", half)
    assert store.get("job", "a") == {"count": 0}


def test_names_are_unique_within_a_kind_and_lists_are_in_order_of_age(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.insert("job", "b", 1.0, {"n": 1})
    store.insert("job", "a", 2.0, {"n": 2})
    store.insert("model", "a", 0.0, {"n": 3})
    with pytest.raises(ExistsError):
        store.insert("job", "a", 3.0, {})
    assert [one["n"] for one in store.all("job")] == [1, 2]
    store.delete("job", "b")
    for call in (store.get, store.delete):
        with pytest.raises(MissingError):
            call("job", "b")


def test_a_list_can_be_of_some_members_only(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.insert("job", "b", 2.0, {"n": 1, "m": {"x": [1, "é"]}, "o": "large" * 1000})
    store.insert("job", "a", 1.0, {"m": None, "_p": True})
    assert list(store.select("job", ("n", "m", "_p"))) == [{"_p": True}, {"n": 1, "m": {"x": [1, "é"]}}]


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    Store(tmp_path / "state.sqlite")
    assert (tmp_path / "state.sqlite").stat().st_mode & 0o777 == 0o600
