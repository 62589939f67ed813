"""Where a plain process is logged, and what of it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from kennel.emulator.runners.base import STANDBY_LABEL
from kennel.emulator.runners.child import LAUNCH, choose_log
from kennel.emulator.runners.pump import Pump

pytestmark = pytest.mark.pure


def test_a_standby_that_ends_at_once_is_logged_where_its_job_is(tmp_path: Path) -> None:
    """Its program had ended before the first look for the job; the lines went to a file that goes with the standby."""
    launch = {"log_file": str(tmp_path / "own"), "labels": {STANDBY_LABEL: "pool"}}
    (tmp_path / LAUNCH).write_text(json.dumps(launch | {"log_file": str(tmp_path / "job")}))
    over = threading.Event()
    over.set()
    assert choose_log(tmp_path, launch, over) == tmp_path / "job"


def test_a_standby_without_a_job_has_a_log_of_its_own(tmp_path: Path) -> None:
    launch = {"log_file": str(tmp_path / "own"), "labels": {STANDBY_LABEL: "pool"}}
    (tmp_path / LAUNCH).write_text(json.dumps(launch))
    over = threading.Event()
    over.set()
    assert choose_log(tmp_path, launch, over) == tmp_path / "own"


def test_what_was_printed_before_the_end_is_in_the_log_when_the_end_is_told(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        pump = Pump(pipe, lambda _: tmp_path / "logs/stream", tmp_path / "reserve")
        os.write(writing, b"one\ntw")
        os.write(writing, b"o\nthree")
        os.close(writing)
        pump.finish()
    said = [json.loads(line)["message"] for line in (tmp_path / "logs/stream").read_text().splitlines()]
    assert said == ["one", "two", "three"]
