"""A disk that fills up while a training writes what is less than its model, and one without room for that either."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kennel.classifier.network.predictor import Predictor
from kennel.contract.files import write_json
from kennel.contract.paths import ContainerPaths
from tests.conftest import make_photos
from tests.small_disks import small_disk

SMALL = {
    "arch": "squeezenet1_1", "pretrained": "none", "epochs": "2", "batch_size": "4", "crop_px": "32", "resize_px": "32",
    "num_workers": "0", "precision": "fp32", "channels_last": "off", "checkpoints": "off", "optimizer": "sgd",
    "lr": "0.6",
}  # fmt: skip


def train(job: Path) -> tuple[int, str]:
    for seed, (channel, images) in enumerate({"train": 24, "validation": 6}.items()):
        make_photos(job / "input/data" / channel, images=images, seed=seed)
    write_json(ContainerPaths(job).hyperparameters_file, SMALL)
    command = [sys.executable, "-m", "kennel.classifier", "train", "--base-dir", str(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_training_goes_on_without_tensors_findings_and_reports(tmp_path: Path) -> None:
    with small_disk(tmp_path / "output/data", 300_000):
        code, said = train(tmp_path)
        left = json.loads((tmp_path / "output/data/findings.json").read_text())  # from before; never half a file
    assert code == 0, said
    assert said.count("The debugger is off from here on: tensors cannot be written ([Errno 28]") == 1
    assert "findings.json could not be written" in said
    assert "Not all reports could be written" in said
    assert "No profiler report: " in said
    assert "Traceback" not in said
    assert "epoch=2/2" in said
    assert left["ended"] is False
    assert Predictor.load(tmp_path / "model").meta.classes == ("blue", "red")
    assert not (tmp_path / "output/failure").exists()


def test_no_room_for_the_model_is_one_sentence(tmp_path: Path) -> None:
    with small_disk(tmp_path / "model", 100_000):
        code, said = train(tmp_path)
    assert code == 1
    assert "Traceback" not in said
    failure = (tmp_path / "output/failure").read_text()
    assert failure.startswith("The disk is full (")
    assert "VolumeSizeInGB" in failure
