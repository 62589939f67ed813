"""`kennel report`: of a folder, of a job on the local SageMaker, of a job on AWS."""

from __future__ import annotations

import contextlib
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kennel.driver.errors import DriverError
from kennel.driver.session import connection
from kennel.driver.session.home import Home
from tests.driver.conftest import Aws, Kennel
from tests.insight.profile.test_report import make_run


@pytest.fixture
def local(kennel: Kennel) -> Iterator[Kennel]:
    """A home whose train image leaves what a run leaves."""
    kennel.home.mkdir()
    run = make_run(kennel.folder / "left")
    program = [sys.executable, str(Path(__file__).with_name("profiled_trainer.py")), str(run)]
    (kennel.home / "images.json").write_text(json.dumps({"kennel-train": program}))
    kennel.write_project('runner = "process"\n')
    yield kennel
    with contextlib.suppress(DriverError):
        connection.stop(Home(kennel.home))


def test_a_folder_becomes_a_report(kennel: Kennel) -> None:
    make_run(kennel.folder / "run")
    done = kennel("report", "run", "--output", "out", "--usd-per-hour", "0.5")
    assert done.code == 0, done.err
    assert "run: num_workers=1: 148 → 88.0 ms a step" in done.out
    assert (kennel.folder / "out/profiler-report.html").exists()
    assert (kennel.folder / "out/profiler-report.pdf").exists()
    assert json.loads((kennel.folder / "out/profiler-report/Report.json").read_text())["cost"]["usd_per_hour"] == 0.5


def test_two_folders_are_compared(kennel: Kennel) -> None:
    make_run(kennel.folder / "slow")
    make_run(kennel.folder / "fast", wait_ms=2)
    found = kennel("report", "slow", "--compare", "fast", "--json").json
    assert [Path(file).name for file in found["files"]] == ["profiler-comparison.html", "profiler-comparison.pdf"]
    assert found["first"]["loading"]["wait_s"] == pytest.approx(0.06, abs=1e-4)
    assert found["second"]["loading"]["wait_s"] == pytest.approx(0.002, abs=1e-4)
    assert "slow and fast" in (kennel.folder / "report-slow/profiler-comparison.html").read_text()


def test_a_job_of_the_local_sagemaker_is_found_by_its_name(local: Kennel, dataset: Path) -> None:
    trained = local("train", str(dataset), "epochs=1", "--name", "dogs")
    assert trained.code == 0, trained.err
    found = local("report", "dogs", "--json").json
    assert found["run"] == "dogs"
    assert found["summary"]["steps"] == 40
    assert found["cost"] is None  # an hour of this machine costs nothing
    assert (local.folder / "report-dogs/profiler-report.html").exists()


def test_a_job_on_aws_is_fetched_from_s3_and_priced(on_aws: Kennel, aws: Aws, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    aws.client("sagemaker").create_training_job(
        TrainingJobName="dogs",
        AlgorithmSpecification={"TrainingImage": "x", "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/kennel",
        OutputDataConfig={"S3OutputPath": "s3://dogs/output"},
        ResourceConfig={"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
    )
    s3 = aws.client("s3")
    profile = run / "profiler"
    for path in (path for path in profile.rglob("*") if path.is_file()):
        s3.upload_file(str(path), "dogs", f"output/dogs/profiler-output/{path.relative_to(profile)}")
    with tarfile.open(tmp_path / "output.tar.gz", "w:gz") as tar:
        tar.add(run / "metrics.jsonl", arcname="metrics.jsonl")
    s3.upload_file(str(tmp_path / "output.tar.gz"), "dogs", "output/dogs/output/output.tar.gz")
    s3.put_object(Bucket="dogs", Key="output/dogs/output/model.tar.gz", Body=b"weights that a report does not need")
    done = on_aws("report", "dogs", "--json")
    found = done.json
    assert found["summary"]["steps"] == 40
    assert found["summary"]["epochs"] == 3  # metrics.jsonl came out of the archive
    assert found["cost"]["usd_per_hour"] == pytest.approx(2 * 0.736)
    assert "check the current price" in found["cost"]["source"]


def test_what_is_not_there_is_one_line(kennel: Kennel) -> None:
    done = kennel("report", "./nothing")
    assert done.code == 1
    assert "kennel: ./nothing is not there." in done.err
    assert "Traceback" not in done.err
