import json
import multiprocessing
from pathlib import Path

import pytest

from kennel.driver.errors import DriverError
from kennel.driver.session.record import CREATED, CREATING, DELETED, Record


def begin_many(file: Path, kind: str) -> None:
    for number in range(30):
        Record(file).confirm(Record(file).begin(kind, f"{kind}-{number}", "local", "us-east-1"))


def test_two_processes_lose_no_entry_of_each_other(tmp_path: Path) -> None:
    file = tmp_path / "created.json"
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=begin_many, args=(file, kind)) for kind in ("model", "endpoint")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    entries = Record(file).entries()
    assert len(entries) == 60
    assert {entry.state for entry in entries} == {CREATED}


def test_an_entry_lives_from_creating_to_deleted(tmp_path: Path) -> None:
    record = Record(tmp_path / "deep/created.json")
    entry = record.begin("endpoint", "e", "aws", "eu-central-1", instance_type="ml.m5.xlarge")
    assert [e.state for e in record.entries()] == [CREATING]
    record.confirm(entry, arn="x")
    record.note("endpoint", "e", "aws", billable_s=3)
    record.mark_deleted(entry)
    [kept] = record.entries()
    assert kept.state == DELETED
    assert kept.deleted >= kept.created
    assert kept.details == {"instance_type": "ml.m5.xlarge", "arn": "x", "billable_s": 3}
    assert record.alive() == []


def test_a_name_that_is_used_again_keeps_what_the_first_one_cost(tmp_path: Path) -> None:
    record = Record(tmp_path / "created.json")
    first = record.begin("endpoint", "e", "aws", "r")
    record.confirm(first)
    record.mark_deleted(first)
    record.confirm(record.begin("endpoint", "e", "aws", "r"))
    record.note("endpoint", "e", "aws", billable_s=1)
    assert [(e.state, e.details) for e in record.entries()] == [(DELETED, {}), (CREATED, {"billable_s": 1})]


def test_a_refusal_leaves_the_older_one_of_that_name(tmp_path: Path) -> None:
    record = Record(tmp_path / "created.json")
    record.confirm(record.begin("training-job", "j", "aws", "r"))
    record.forget(record.begin("training-job", "j", "aws", "r"))
    assert [entry.state for entry in record.entries()] == [CREATED]


def test_what_is_created_anew_takes_the_place_of_what_was_deleted_elsewhere(tmp_path: Path) -> None:
    record = Record(tmp_path / "created.json")
    for _ in range(2):
        record.confirm(record.begin("data", "s3://dogs/x/", "aws", "r"))
    assert len(record.alive()) == 1


def test_a_refused_resource_is_forgotten(tmp_path: Path) -> None:
    record = Record(tmp_path / "created.json")
    record.forget(record.begin("model", "m", "local", "r"))
    assert record.entries() == []


def test_the_same_name_elsewhere_is_another_resource(tmp_path: Path) -> None:
    record = Record(tmp_path / "created.json")
    here, there = record.begin("model", "m", "local", "r"), record.begin("model", "m", "aws", "r")
    record.mark_deleted(there)
    assert [entry.on for entry in record.alive()] == [here.on]


@pytest.mark.parametrize("text", ["{", json.dumps({"schema": 9, "entries": []}), json.dumps({"schema": 1}), "[]"])
def test_a_damaged_record_is_not_overwritten(tmp_path: Path, text: str) -> None:
    file = tmp_path / "created.json"
    file.write_text(text)
    with pytest.raises(DriverError, match="cannot be read"):
        Record(file).begin("model", "m", "local", "r")
    assert file.read_text() == text
