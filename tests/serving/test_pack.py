"""Packing an artifact for OpenVINO, as people run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kennel.classifier.data.folder import scan
from kennel.classifier.network.predictor import Predictor
from kennel.classifier.network.probes import choose_probes, read_probes, save_probes
from serving.engines.base import BOUNDS, EngineError, compare
from serving.engines.choose import choose_engine
from serving.engines.torch_engine import TorchFloat32
from serving.settings import ModelSettings
from tests.serving.serving_harness import CLASSES, ROOT, encoded, scene


def pack(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "serving", "pack", "--model-dir", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def photos_dir(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in the folders of the classes that the network gives them, so that its accuracy is 1."""
    root = tmp_path_factory.mktemp("photos")
    for name in CLASSES:
        (root / name).mkdir()
    for seed in range(48):
        photo = encoded(scene(seed), "PNG")
        target = int(predictor.probabilities(predictor.tensor(photo)[None]).argmax())
        (root / CLASSES[target] / f"{seed}.png").write_bytes(photo)
    return root


@pytest.fixture
def folder(artifact: Path, predictor: Predictor, photos_dir: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(artifact, tmp_path / "model")
    save_probes(copy, choose_probes(predictor, scan(photos_dir, classes=CLASSES)))
    return copy


def test_a_packed_network_is_what_the_server_loads_and_a_changed_one_is_refused(folder, predictor):
    done = pack(folder)
    assert done.returncode == 0, done.stderr
    assert "0 of 8 probe images change their label" in done.stdout
    engine = choose_engine(predictor, folder, ModelSettings(engine="openvino", precision="fp32"))
    assert engine.name == "openvino fp32"
    assert json.loads((folder / "openvino.json").read_text())["weights_sha256"] == predictor.meta.weights_sha256
    changed = (folder / "openvino.bin").read_bytes()[:-4] + bytes(4)  # the last bias of the head
    (folder / "openvino.bin").write_bytes(changed)
    with pytest.raises(EngineError, match="does not answer as torch fp32 does"):
        choose_engine(predictor, folder, ModelSettings(engine="openvino", precision="fp32"))


@pytest.mark.slow
def test_int8_is_calibrated_judged_on_other_photos_and_served(folder, predictor, photos_dir):
    done = pack(folder, "--precision", "int8", "--calibration", str(photos_dir))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"calibrating on 24 of 48 images in {photos_dir}"
    assert lines[1].startswith("accuracy on 24 other images: torch fp32 1.0000, int8 ")
    assert ", loss " in lines[1]
    facts = json.loads((folder / "openvino.json").read_text())
    assert (facts["precision"], facts["accuracy_fp32"], facts["judged_images"]) == ("int8", 1.0, 24)
    engine = choose_engine(predictor, folder, ModelSettings(engine="openvino", precision="int8"))
    found = compare(engine, TorchFloat32(predictor), read_probes(folder))
    assert 0 < found.largest_difference <= BOUNDS["int8"], "exactly equal would mean that nothing is int8"
    assert (folder / "openvino.bin").stat().st_size < 0.5 * (folder / "model.safetensors").stat().st_size
    exact = choose_engine(predictor, folder, ModelSettings(engine="openvino", precision="fp32"))
    assert compare(exact, TorchFloat32(predictor), read_probes(folder)).largest_difference <= BOUNDS["fp32"]


@pytest.mark.slow
def test_int8_without_photos_or_with_too_few_is_refused(folder, tmp_path):
    done = pack(folder, "--precision", "int8")
    assert (done.returncode, done.stderr.splitlines()[-1].partition(": ")[2][:11]) == (1, "int8 needs ")
    few = tmp_path / "few"
    for name in CLASSES:
        (few / name).mkdir(parents=True)
        (few / name / "1.png").write_bytes(encoded(scene(1), "PNG"))
    done = pack(folder, "--precision", "int8", "--calibration", str(few))
    assert done.returncode == 1
    assert "has 7 images; calibrating and judging take 20 at least" in done.stderr
    assert not list(folder.glob("openvino*"))


def test_probe_images_are_the_least_sure_that_are_not_undecided(predictor, photos_dir):
    probabilities = predictor.probabilities(choose_probes(predictor, scan(photos_dir, classes=CLASSES)))
    assert len(probabilities) == 8
    best = probabilities.topk(2).values
    margins = best[:, 0] - best[:, 1]
    assert float(margins.min()) >= 0.2
    assert torch.equal(margins, margins.sort().values)
