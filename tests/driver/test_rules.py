"""`kennel rules`: of a path, of a job here, of a job on AWS."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kennel.driver.errors import DriverError
from kennel.driver.session import connection
from kennel.driver.session.home import Home
from tests.conftest import make_photos
from tests.driver.conftest import ROLE, TRAIN_IMAGE, Aws, Kennel

TRAININGS = Path(__file__).parents[1] / "insight/trainings.py"
PROGRAM = f"""
import importlib.util, os, pathlib
spec = importlib.util.spec_from_file_location("trainings", {str(TRAININGS)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
module.dead_relu(base)
(base / "model/weights.txt").write_text("weights")
"""


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training with dead rectifiers leaves."""
    folder = tmp_path_factory.mktemp("trainings")
    subprocess.run([sys.executable, TRAININGS, folder, "dead_relu"], check=True, capture_output=True)
    return folder / "dead_relu/output/data/tensors"


@pytest.fixture
def local(kennel: Kennel) -> Iterator[Kennel]:
    """A home whose train image is that training."""
    kennel.home.mkdir()
    (kennel.home / "images.json").write_text(json.dumps({"kennel-train": [sys.executable, "-c", PROGRAM]}))
    kennel.write_project('runner = "process"\n')
    yield kennel
    with contextlib.suppress(DriverError):
        connection.stop(Home(kennel.home))


def test_a_path_gives_a_table_and_json(kennel: Kennel, tensors: Path) -> None:
    shown = kennel("rules", tensors, "--rules", "DeadRelu,ExplodingTensor")
    assert shown.code == 0, shown.err
    assert [line.split()[:2] for line in shown.out.splitlines()[:3]] == [
        ["rule", "status"], ["DeadRelu", "IssuesFound"], ["ExplodingTensor", "NoIssuesFound"],
    ]  # fmt: skip
    assert "  TRAIN step 0: 100 % of the 8 nodes" in shown.out
    value = kennel("rules", tensors, "--rules", "DeadRelu", "--json").json
    assert value["findings"][0]["threshold"] == 50.0


def test_what_is_wrong_is_one_line(kennel: Kennel, tensors: Path) -> None:
    wrong = kennel("rules", tensors, "--rules", "DeadReLU")
    assert wrong.code == 1
    assert "kennel: There is no rule 'DeadReLU'. Did you mean DeadRelu?\n" in wrong.err
    absent = kennel("rules", "some/where")
    assert absent.err.startswith("kennel: some/where is not there.")


@pytest.mark.parametrize("command", ["rules", "report"])
def test_a_mistyped_name_starts_no_server(kennel: Kennel, command: str) -> None:
    done = kennel(command, "no-such-job")
    assert done.code == 1
    assert done.err.startswith("kennel: There is no file or folder 'no-such-job' here, and no training job")
    assert "kennel jobs lists them" in done.err
    assert not (kennel.home / "emulator.json").exists()


def test_a_job_here_is_judged_by_its_output(local: Kennel, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", images=2)
    job = local("train", photos, "--json").json["job"]
    found = local("rules", job, "--rules", "DeadRelu", "--json").json
    assert found["source"].endswith(f"{job}/output/output.tar.gz")
    assert found["rules"][0]["status"] == "IssuesFound"
    absent = local("rules", "no-such-job")
    assert "There is no file or folder 'no-such-job' here, and no training job of this name on local." in absent.err
    assert local("down").out == "The local SageMaker has ended.\n"
    assert local("rules", job, "--rules", "DeadRelu").code == 0, "a job whose server has ended is still judged"


def test_a_job_on_aws_is_judged_by_what_lies_in_s3(on_aws: Kennel, aws: Aws, tensors: Path, tmp_path: Path) -> None:
    archive = tmp_path / "output.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tensors, "tensors")
    aws.client("s3").upload_file(str(archive), "dogs", "out/plain/output/output.tar.gz")
    for path in filter(Path.is_file, tensors.rglob("*")):
        aws.client("s3").upload_file(str(path), "dogs", f"out/hooked/debug-output/{path.relative_to(tensors)}")
    for name, hook in (("plain", {}), ("hooked", {"DebugHookConfig": {"S3OutputPath": "s3://dogs/out"}})):
        aws.client("sagemaker").create_training_job(
            TrainingJobName=name, RoleArn=ROLE,
            AlgorithmSpecification={"TrainingImage": TRAIN_IMAGE, "TrainingInputMode": "File"},
            OutputDataConfig={"S3OutputPath": "s3://dogs/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
            StoppingCondition={"MaxRuntimeInSeconds": 600}, **hook,
        )  # fmt: skip
        found = on_aws("rules", name, "--rules", "DeadRelu", "--json").json
        assert found["rules"][0]["status"] == "IssuesFound"
