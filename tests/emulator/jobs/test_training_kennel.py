"""Kennel's own trainer as a job: what `kennel train` will start, without docker."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from smdebug.profiler.analysis.utils.profiler_data_to_pandas import PandasFrame

from kennel.contract.metrics import METRICS, metric_definitions
from kennel.emulator.training.channels import read_channels
from kennel.emulator.training.inputs import list_items
from tests.conftest import make_photos
from tests.emulator.jobs.conftest import Platform, both, channel

SMALL = {
    "arch": "resnet18", "pretrained": "none", "train_layers": "head", "crop_px": "32", "resize_px": "32",
    "batch_size": "4", "epochs": "2", "num_workers": "0", "precision": "fp32", "channels_last": "off",
}  # fmt: skip


@pytest.fixture
def members(tmp_path: Path) -> dict[str, Any]:
    channels = []
    for seed, (name, images) in enumerate({"train": 8, "validation": 3, "test": 3}.items()):
        channels.append(channel(name, make_photos(tmp_path / "photos" / name, images=images, seed=seed).as_uri()))
    algorithm = {"TrainingImage": "kennel-train:abc", "MetricDefinitions": metric_definitions()}
    return {"HyperParameters": SMALL, "InputDataConfig": channels, "AlgorithmSpecification": algorithm}


def start(platform: Platform, name: str = "job", **members: Any) -> None:
    platform.insert("", name, **members)
    platform.store.update("training-job", name, lambda d: d["HyperParameters"].pop("program"))
    platform.jobs.start(name)


def completed(platform: Platform, name: str = "job") -> dict[str, Any]:
    platform.jobs.wait(name, 250)
    document = platform.describe(name)
    assert document["TrainingJobStatus"] == "Completed", (document.get("FailureReason"), platform.log(name))
    return document


def run(platform: Platform, **members: Any) -> dict[str, Any]:
    start(platform, **members)
    return completed(platform)


def test_the_trainer_leaves_an_artifact_and_all_its_metrics(platform: Platform, members: dict[str, Any]) -> None:
    document = run(platform, **members)
    with tarfile.open(platform.output_dir() / "model.tar.gz") as tar:
        assert {"meta.json", "model.safetensors"} <= set(tar.getnames())
    with tarfile.open(platform.output_dir() / "output.tar.gz") as tar:
        names = tar.getnames()
    assert {"metrics.jsonl", "test_summary.json", "findings.json"} <= set(names)
    # A request without any Debugger field: what the rules and the profiler saw is in the archive.
    for part in ("run/", "system/incremental/", "framework/pevents/"):
        assert any(name.startswith(f"profiler/{part}") for name in names), part
    assert {one["MetricName"] for one in document["FinalMetricDataList"]} == set(METRICS)


def test_with_a_profiler_config_the_platform_samples_and_the_trainer_writes_spans(
    platform: Platform, members: dict[str, Any]
) -> None:
    parameters = {"DetailedProfilingConfig": '{"StartStep": 1, "NumSteps": 1, }', "LocalPath": "/opt/ml/output/spans"}
    config = {"S3OutputPath": platform.output, "ProfilingParameters": parameters}
    members["HyperParameters"] = SMALL | {"debugger": "off", "train_layers": "all"}
    run(platform, **members, ProfilerConfig=config)
    profile = platform.folder / "output/job/profiler-output"
    frame = PandasFrame(str(profile))
    assert set(frame.get_all_system_metrics()["nodeID"]) == {"algo-1"}
    metrics = frame.get_all_framework_metrics()
    assert set(metrics[metrics["process"] == "Step:ModeKeys.TRAIN"]["step"]) == set(range(8))  # 16 images, 4 a step
    assert list(profile.rglob("000000001/*_operators.json"))
    with tarfile.open(platform.output_dir() / "output.tar.gz") as tar:
        assert not [name for name in tar.getnames() if name.startswith("profiler")]  # nothing is written twice


MINE = """
import json, os, pathlib, sys
pathlib.Path(os.environ["SM_MODEL_DIR"], "told.json").write_text(json.dumps([sys.argv[1:], os.environ["SM_HPS"]]))
"""


@both
@pytest.mark.timeout(1800)  # the first test with docker builds the images
@pytest.mark.parametrize("status", [0, 3])
def test_a_jobs_own_program_runs_instead_of_the_trainer(
    platform: Platform, tmp_path: Path, request: pytest.FixtureRequest, status: int
) -> None:
    """The same request on both runners: a program of the trainer's old name, in a channel."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "train.py").write_text(f"{MINE}sys.exit({status})\n")
    image = request.getfixturevalue("train_image") if platform.runner.name == "docker" else "kennel-train:abc"
    named = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": '"/opt/ml/input/data/code"'}
    start(
        platform,
        HyperParameters={**named, "batch-size": '"32"', "sagemaker_region": '"eu-central-1"'},
        InputDataConfig=[channel("code", own.as_uri())],
        AlgorithmSpecification={"TrainingImage": image},
    )
    platform.jobs.wait("job", 250)
    document = platform.describe("job")
    assert document["TrainingJobStatus"] == ("Failed" if status else "Completed"), (document, platform.log())
    if not status:
        told = json.loads(platform.members()["told.json"])
        assert told == [["--batch-size", "32"], '{"batch-size":"32"}']


@both
@pytest.mark.timeout(1800)
def test_a_hyperparameter_in_two_spellings_is_one_clear_failure(
    platform: Platform, members: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    image = request.getfixturevalue("train_image") if platform.runner.name == "docker" else "kennel-train:abc"
    members["AlgorithmSpecification"]["TrainingImage"] = image
    members["HyperParameters"] = SMALL | {"batch-size": "8"}
    start(platform, **members)
    platform.jobs.wait("job", 250)
    reason = platform.describe("job")["FailureReason"]
    assert "Hyperparameter 'batch_size' has value '4' and, as 'batch-size', value '8'." in reason


@pytest.mark.slow
def test_two_hosts_train_together(platform: Platform, members: dict[str, Any]) -> None:
    run(platform, **members, ResourceConfig={"InstanceCount": 2})
    assert "Processes: 1, on each of: algo-1, algo-2" in platform.log()
    assert platform.log().count("epoch=2/2 ") == 1
    with tarfile.open(platform.output_dir() / "model.tar.gz") as tar:
        assert "model.safetensors" in tar.getnames()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_jobs_of_two_hosts_train_at_once(platform: Platform, members: dict[str, Any]) -> None:
    for name in ("one", "two"):
        start(platform, name, **members, ResourceConfig={"InstanceCount": 2})
    for name in ("one", "two"):
        completed(platform, name)
        assert platform.log(name).count("epoch=2/2 ") == 1


@pytest.mark.slow
def test_a_stop_saves_what_was_learnt_and_spot_goes_on_from_there(
    platform: Platform, members: dict[str, Any], tmp_path: Path
) -> None:
    platform.grace_s = 60
    platform.jobs = platform.new_jobs()
    spot = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxWaitTimeInSeconds": 90_000},
        "CheckpointConfig": {"S3Uri": (tmp_path / "checkpoints").as_uri()},
        "HyperParameters": SMALL | {"epochs": "60"},
    }
    start(platform, **(members | spot))
    platform.wait_for(lambda: "epoch=2/60" in platform.log(), 60)
    platform.jobs.interrupt("job")
    platform.wait_for(lambda: "Interrupted" in platform.statuses(), 60)
    platform.jobs.wait("job", 200)
    assert platform.describe()["TrainingJobStatus"] == "Completed", platform.log()
    assert platform.log().count("epoch=2/60 ") == 1
    assert platform.log().count("epoch=60/60 ") == 1


def test_a_pipe_of_an_augmented_manifest_trains(platform: Platform, members: dict[str, Any]) -> None:
    channels = []
    for one in members["InputDataConfig"]:
        [read] = read_channels({"InputDataConfig": [one]})
        lines = [{"source-ref": str(i.uri), "class": i.name.split("/")[0]} for i in list_items(read)]
        manifest = read.uri.file / "list.manifest"
        manifest.write_text("\n".join(map(json.dumps, lines)))
        source = {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["source-ref", "class"]}
        channels.append(
            channel(read.name, manifest.as_uri(), InputMode="Pipe", RecordWrapperType="RecordIO", source=source)
        )
    document = run(platform, **(members | {"InputDataConfig": channels}))
    assert len(document["FinalMetricDataList"]) == len(METRICS)
