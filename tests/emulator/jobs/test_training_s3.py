"""Jobs whose data, artifacts and checkpoints lie in S3: moto's server, reached as AWS_ENDPOINT_URL_S3 says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from kennel.emulator.runners.namespaces import possible
from tests.emulator.jobs.conftest import Platform, both, channel, unpack
from tests.emulator.s3 import BUCKET, Bucket, bucket
from tests.servers import variables


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """One that boto3 finds by itself, here and in the processes that are started from here."""
    with bucket(tmp_path_factory.mktemp("moto")) as made, variables(**made.variables):
        yield made


@both
def test_channels_come_from_s3_and_artifacts_go_there(platform: Platform, s3: Bucket) -> None:
    s3.put(in__cats__1="meow", in__dogs__2="woof", in__="", other__3="no")
    platform.complete(
        "d = base / 'input/data'\n"
        "print(sorted((str(p.relative_to(d)), p.read_text()) for p in d.rglob('*') if p.is_file()))\n"
        "(d / 'train/cats/mine').write_text('File mode is a copy of the host')\n"
        "(base / 'model/w').write_text('W'); (base / 'output/data/o').write_text('O')",
        InputDataConfig=[channel("train", f"s3://{BUCKET}/in"), channel("one", f"s3://{BUCKET}/other/3")],
        output=f"s3://{BUCKET}/out",
    )
    assert platform.lines() == ["[('one/3', 'no'), ('train/cats/1', 'meow'), ('train/dogs/2', 'woof')]"]
    assert platform.describe()["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/out/job/output/model.tar.gz"
    assert unpack(s3.get("out/job/output/model.tar.gz")) == {"w": "W"}
    assert unpack(s3.get("out/job/output/output.tar.gz")) == {"o": "O"}
    assert "in/cats/mine" not in s3.keys("in/")


@both
def test_fast_file_mode_cannot_be_written(platform: Platform, s3: Bucket) -> None:
    s3.put(fast__1="x")
    platform.complete(
        "p = base / 'input/data/train/1'; print(p.read_text())\n"
        "try: (p.parent / 'new').write_text('n'); print('written')\n"
        "except OSError as e: print(e.strerror)",
        InputDataConfig=[channel("train", f"s3://{BUCKET}/fast/", InputMode="FastFile")],
    )
    assert platform.lines()[0] == "x"
    assert "fast/new" not in s3.keys("fast/")
    if platform.runner.name == "docker" or possible():
        assert platform.lines()[1] == "Read-only file system"


@both
def test_checkpoints_are_restored_kept_up_to_date_and_removed(platform: Platform, s3: Bucket) -> None:
    prefix = f"checkpoints-{platform.runner.name}"
    s3.put(**{f"{prefix}__old": "O", f"{prefix}__older": "X"})
    platform.start(
        "c = base / 'checkpoints'; print(sorted((p.name, p.read_text()) for p in c.iterdir()))\n"
        "(c / 'older').unlink(); (c / 'sub').mkdir(); (c / 'sub/new').write_text('N'); print('saved')\n"
        "while not (c / 'go').exists() and not (base / 'output/data/go').exists(): time.sleep(.1)\n"
        "(c / 'last').write_text('L')",
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/{prefix}/"},
    )
    platform.wait_for_line("saved")
    assert platform.lines()[0] == "[('old', 'O'), ('older', 'X')]"
    platform.wait_for(lambda: s3.keys(prefix) == [f"{prefix}/old", f"{prefix}/sub/new"])  # while it runs
    (platform.home.job_dir("job") / "hosts/algo-1/ml/output/data/go").touch()
    platform.jobs.wait("job", 30)
    assert platform.describe()["TrainingJobStatus"] == "Completed"
    assert s3.keys(prefix) == [f"{prefix}/{name}" for name in ("last", "old", "sub/new")]


def test_a_spot_job_resumes_from_the_checkpoint_in_s3(platform: Platform, s3: Bucket) -> None:  # noqa: ARG001
    platform.start(
        "c = base / 'checkpoints/step'\n"
        "if c.exists(): print('resumed at', c.read_text()); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, lambda *_: (c.write_text('7'), sys.exit(0)))\n"
        "print('up')\nwhile True: time.sleep(.05)",
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxWaitTimeInSeconds": 90_000},
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/spot"},
    )
    platform.wait_for_line("up")
    platform.jobs.interrupt("job")
    platform.jobs.wait("job", 30)
    assert platform.describe()["TrainingJobStatus"] == "Completed"
    assert "resumed at 7" in platform.log()


def test_tensors_and_tensorboard_files_are_uploaded_while_they_come(platform: Platform, s3: Bucket) -> None:
    platform.start(
        "o = base / 'output'\n"
        "for n in ('tensors', 'tensorboard', 'profiler'): (o / n).mkdir(); (o / n / 'f').write_text(n)\n"
        "print('saved')\n"
        "while not (base / 'output/data/go').exists(): time.sleep(.1)\n",
        DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/debug"},
        TensorBoardOutputConfig={"S3OutputPath": f"s3://{BUCKET}/debug"},
        ProfilerConfig={"S3OutputPath": f"s3://{BUCKET}/debug"},
    )
    platform.wait_for_line("saved")
    wanted = [f"debug/job/{name}/f" for name in ("debug-output", "profiler-output", "tensorboard-output")]
    platform.wait_for(lambda: s3.keys("debug/") == wanted)
    (platform.home.job_dir("job") / "hosts/algo-1/ml/output/data/go").touch()
    platform.jobs.wait("job", 30)
    assert platform.describe()["TrainingJobStatus"] == "Completed"


@both
def test_shards_of_s3_objects_part_them_among_the_hosts(platform: Platform, s3: Bucket) -> None:
    s3.put(**{f"shards__{n}": str(n) for n in range(4)})
    sharded = {"S3DataDistributionType": "ShardedByS3Key"}
    platform.complete(
        "print(sorted(p.name for p in (base / 'input/data/c').iterdir()))",
        InputDataConfig=[channel("c", f"s3://{BUCKET}/shards/", source=sharded)],
        ResourceConfig={"InstanceCount": 2},
    )
    assert platform.lines(host="algo-1") == ["['0', '2']"]
    assert platform.lines(host="algo-2") == ["['1', '3']"]


def test_a_manifest_names_objects_and_folders_of_s3_and_nothing_that_only_begins_alike(
    platform: Platform, s3: Bucket
) -> None:
    objects = {
        "listed__a": "A",
        "listed__a.old": "old",
        "listed__b__1": "1",
        "listed__b__c__2": "2",
        "listed__bb": "no",
    }
    s3.put(**objects)
    manifest = json.dumps([{"prefix": f"s3://{BUCKET}/listed/"}, "a", "b"])
    s3.put(list__m=manifest, list__wrong=json.dumps([{"prefix": f"s3://{BUCKET}/listed/"}, "aa"]))
    source = {"S3DataType": "ManifestFile"}
    program = "d = base / 'input/data/c'; print(sorted(str(p.relative_to(d)) for p in d.rglob('*') if p.is_file()))"
    platform.complete(program, InputDataConfig=[channel("c", f"s3://{BUCKET}/list/m", source=source)])
    assert platform.lines() == ["['a', 'b/1', 'b/c/2']"]
    wrong = platform.run("", "wrong", InputDataConfig=[channel("c", f"s3://{BUCKET}/list/wrong", source=source)])
    assert "names 'aa', but there is no" in wrong["FailureReason"]


def test_a_prefix_without_objects_fails_the_job(platform: Platform, s3: Bucket) -> None:  # noqa: ARG001 - must run
    document = platform.run("", InputDataConfig=[channel("train", f"s3://{BUCKET}/nothing/here")])
    assert document["FailureReason"] == (
        "ClientError: Data download failed: Channel 'train': there is nothing under "
        f"'s3://{BUCKET}/nothing/here'. Correct the S3Uri."
    )


def test_an_upload_that_fails_fails_the_job_with_the_reason(platform: Platform, s3: Bucket) -> None:  # noqa: ARG001
    document = platform.run("", output="s3://no-such-bucket-of-ours/out")
    assert document["TrainingJobStatus"] == "Failed"
    assert document["FailureReason"].startswith("ClientError: Artifact upload failed: 's3://no-such-bucket-of-ours/out")
    assert "NoSuchBucket" in document["FailureReason"]


def test_an_object_whose_key_leads_out_of_the_folder_is_refused(platform: Platform, s3: Bucket) -> None:
    s3.put(evil__a="fine")
    s3.client.put_object(Bucket=BUCKET, Key="evil/../../../../../tmp/x", Body=b"bad")
    document = platform.run("", InputDataConfig=[channel("train", f"s3://{BUCKET}/evil/")])
    assert document["TrainingJobStatus"] == "Failed"
    assert "is no path below a folder" in document["FailureReason"]


def test_a_stop_while_data_comes_ends_the_job_without_a_start(platform: Platform, s3: Bucket) -> None:
    s3.put(**{f"many__{n}": "x" for n in range(200)})
    platform.insert("print('started')", InputDataConfig=[channel("a", f"s3://{BUCKET}/many/")] * 1)
    platform.store.update("training-job", "job", lambda d: d.update(TrainingJobStatus="Stopping"))
    platform.jobs.start("job")
    platform.jobs.wait("job", 30)
    time.sleep(0.1)
    assert platform.describe()["TrainingJobStatus"] == "Stopped"
    assert "started" not in platform.log()
