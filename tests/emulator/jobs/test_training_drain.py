"""A program has ended and what it left is on its way to S3, which does not answer. Then the job or the server stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kennel.emulator.runners.base import Exited
from tests.emulator.emulator_harness import job_request, running, wait_for, wait_for_status
from tests.emulator.jobs.conftest import Platform, unpack
from tests.emulator.s3 import BUCKET, Bucket, bucket
from tests.servers import variables

LEAVES = (
    "print('ready')\n"
    "while not (base / 'output/data/go').exists(): time.sleep(.05)\n"
    "(base / 'checkpoints/last').write_text('L'); (base / 'model/w').write_text('W')\n"
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with bucket(tmp_path_factory.mktemp("moto")) as made, variables(**made.variables):
        yield made


def test_a_stop_while_checkpoints_are_on_their_way_loses_none(platform: Platform, s3: Bucket) -> None:
    place = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints"}, "output": f"s3://{BUCKET}/out"}
    platform.start(LEAVES, **place)
    platform.wait_for_line("ready")
    [handle] = platform.runner.find("kennel.job", "job")
    with s3.halted():
        (platform.home.job_dir("job") / "hosts/algo-1/ml/output/data/go").touch()
        platform.wait_for(lambda: isinstance(platform.runner.state(handle), Exited))
        platform.stop()
        with pytest.raises(TimeoutError):
            platform.jobs.wait("job", 1)  # it waits for S3
        assert platform.describe()["TrainingJobStatus"] == "Stopping"
    platform.jobs.wait("job", 60)
    assert platform.describe()["TrainingJobStatus"] == "Stopped"
    assert s3.keys("checkpoints/") == ["checkpoints/last"]
    assert unpack(s3.get("out/job/output/model.tar.gz")) == {"w": "W"}


def test_a_server_that_ends_while_the_model_is_on_its_way_leaves_it_to_the_next(tmp_path: Path, s3: Bucket) -> None:
    home = tmp_path / "home"
    request = job_request("late", tmp_path, OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/late"})
    with running(home, variables=s3.variables) as first:
        client = first.client("sagemaker")
        with s3.halted():
            client.create_training_job(**request)
            wait_for(lambda: secondary(client) == "Uploading")
            assert first.stop() == 0
    assert s3.keys("late/") == []
    with running(home, variables=s3.variables) as second:
        found = wait_for_status(second.client("sagemaker"), "late", "Completed", "Failed")
        assert found["TrainingJobStatus"] == "Completed", found
    assert s3.keys("late/") == ["late/late/output/model.tar.gz"]


def secondary(client: Any) -> str:
    return str(client.describe_training_job(TrainingJobName="late")["SecondaryStatus"])
