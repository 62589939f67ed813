"""Few open files, as on macOS: what cannot be looked at now is not gone, and what cannot be started now waits."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.config import Config

from tests.emulator.emulator_harness import Emulator, job_request, run_job, running, wait_for

_PATIENT = Config(retries={"total_max_attempts": 10, "mode": "standard"})
_SHOWS_LIMIT = """
import json, os, resource
from pathlib import Path
file = Path(os.environ["SAGEMAKER_BASE_DIR"], "model/limit")
file.write_text(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


def cap(emulator: Emulator, files: int) -> None:
    """The running server may have so many files open from now on."""
    resource.prlimit(emulator.process.pid, resource.RLIMIT_NOFILE, (files, files))


def open_now(emulator: Emulator) -> int:
    return len(list(Path(f"/proc/{emulator.process.pid}/fd").iterdir()))


def complete_all(emulator: Emulator, folder: Path, count: int, name: str = "job") -> None:
    """Run so many jobs at once, all of which must complete."""
    client = emulator.client("sagemaker", config=_PATIENT)
    for number in range(count):
        request = job_request(f"{name}-{number}", folder, HyperParameters={"sleep_s": "1"})
        request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
        client.create_training_job(**request)

    def have_ended() -> bool:
        pages = client.get_paginator("list_training_jobs").paginate(StatusEquals="InProgress")
        return not any(page["TrainingJobSummaries"] for page in pages)

    wait_for(have_ended, 400)
    for number in range(count):
        found = client.describe_training_job(TrainingJobName=f"{name}-{number}")
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        assert found["FinalMetricDataList"]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "home") as made:
        yield made


def test_jobs_wait_for_open_files(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    client.list_training_jobs()
    cap(emulator, open_now(emulator) + 16)
    complete_all(emulator, tmp_path, 14)
    said = (emulator.home / "emulator.log").read_text()
    assert "Too many files are open: this process may have" in said  # otherwise this test has tried nothing
    assert "Traceback" not in said


@pytest.mark.slow
def test_ninety_jobs_with_256_open_files(tmp_path: Path) -> None:
    with running(tmp_path / "home") as emulator:
        cap(emulator, 256)
        complete_all(emulator, tmp_path, 90)


def test_files_do_not_grow_with_jobs_that_have_ended(emulator: Emulator, tmp_path: Path) -> None:
    complete_all(emulator, tmp_path, 6, "first")  # connections that are kept for the next ones
    before = open_now(emulator)
    complete_all(emulator, tmp_path, 6, "second")
    wait_for(lambda: open_now(emulator) <= before + 4, 30)


def test_the_server_takes_more_files_than_it_was_given_and_programs_get_what_was_given(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "images.json").write_text(json.dumps({"tiny": [sys.executable, "-c", _SHOWS_LIMIT]}))
    with running(home, open_files=200) as emulator:
        soft, hard = resource.prlimit(emulator.process.pid, resource.RLIMIT_NOFILE)
        assert soft == min(hard, 10_240) if hard != resource.RLIM_INFINITY else soft == 10_240
        output = {"S3OutputPath": (tmp_path / "out").as_uri(), "CompressionType": "NONE"}
        found = run_job(emulator, "job", tmp_path, OutputDataConfig=output)
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        assert json.loads((tmp_path / "out/job/output/model/limit").read_text()) == [200, hard]
