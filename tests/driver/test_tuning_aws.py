"""`kennel tune --on aws` against moto, which stores tuning jobs and runs none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kennel.driver.requests.validate import problems
from tests.driver.conftest import Aws, Kennel

SEARCH = ("--tune", "lr=log:1e-5..1e-1", "--tune", "batch_size=16,32", "--seed", "5", "--name", "t1", "epochs=2")


def test_a_dry_run_prints_the_request_and_what_it_may_cost(on_aws: Kennel, aws: Aws, dataset: Path) -> None:
    done = on_aws("tune", dataset, *SEARCH, "--dry-run", "--max-runtime-minutes", "60", "--max-jobs", "10")
    request = json.loads(done.out)
    assert problems("CreateHyperParameterTuningJob", request, file_uris=False) == []
    assert "10 trials by Bayesian, 2 at a time" in done.err
    assert "estimate: 2 x ml.m5.xlarge: 0.460 USD an hour, 2.30 USD at most" in done.err
    assert aws.client("sagemaker").list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"] == []
    assert aws.client("s3").list_objects_v2(Bucket="dogs")["KeyCount"] == 0


def test_no_more_trials_at_once_than_in_all(on_aws: Kennel, dataset: Path) -> None:
    done = on_aws("tune", dataset, *SEARCH, "--dry-run", "--max-jobs", "1", "--parallel", "4")
    limits = json.loads(done.out)["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits == {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1}
    assert "1 trial by Bayesian, one after another" in done.err


def test_the_request_is_the_same_on_both_ends_but_for_places(on_aws: Kennel, dataset: Path) -> None:
    there = json.loads(on_aws("tune", dataset, *SEARCH, "--dry-run").out)
    here = json.loads(on_aws("tune", dataset, *SEARCH, "--dry-run", "--on", "local").out)
    assert _without_places(there) == _without_places(here)
    assert there != here


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in value.items() if key not in ("S3Uri", "S3OutputPath")}
    return [_without_places(inner) for inner in value] if isinstance(value, list) else value


def test_a_tuning_job_is_uploaded_for_created_and_recorded(on_aws: Kennel, aws: Aws, dataset: Path) -> None:
    done = on_aws("tune", dataset, *SEARCH, "--no-wait")
    assert done.code == 0, done.err
    assert done.out.startswith("tuning job  t1\nkennel tune show t1 shows how it is")
    job = aws.client("sagemaker").describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="t1")
    assert job["TrainingJobDefinition"]["StaticHyperParameters"] == {"epochs": "2"}
    channels = job["TrainingJobDefinition"]["InputDataConfig"]
    assert {one["ChannelName"] for one in channels} == {"train", "validation", "test"}
    assert aws.client("s3").list_objects_v2(Bucket="dogs")["KeyCount"] == 40
    entries = json.loads((on_aws.home / "created.json").read_text())["entries"]
    assert [entry["state"] for entry in entries if entry["kind"] == "tuning-job"] == ["created"]
    listed = on_aws("tune", "jobs", "--json").json
    assert [one["tuning_job"] for one in listed] == ["t1"]
