"""compile=on from the command to the artifact, with kernels that a real C++ compiler makes, which takes a minute."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kennel.classifier.network.artifact import load_artifact
from kennel.classifier.network.model import build
from kennel.classifier.network.predictor import Predictor
from tests.classifier.test_train import failure, start
from tests.conftest import make_photos

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # a minute or two a test on idle cores, a multiple on busy ones
    pytest.mark.skipif(
        not (shutil.which("g++") or shutil.which("clang++")),
        reason="compile=on needs g++ or clang++, and there is none",
    ),
]

QUICK = {
    "arch": "resnet18", "pretrained": "none", "crop-px": "32", "resize-px": "32", "num-workers": "0",
    "batch-size": "9",  # of 24 images: the last batch is smaller, for which the network is compiled once more
    "warmup-epochs": "0", "precision": "fp32", "channels-last": "off", "debugger": "off", "profiler": "off",
    "checkpoints": "on",
}  # fmt: skip


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled kernels are kept, so that only the first run of this file compiles all of them."""
    return tmp_path_factory.mktemp("kernels")


def train(job: Path, kernels: Path, **changes: str) -> str:
    """Run the command over three channels of photos; gives what it printed."""
    for seed, (channel, images) in enumerate({"train": 12, "validation": 4, "test": 4}.items()):
        make_photos(job / "input/data" / channel, images=images, seed=seed)
    flags = [part for name, value in (QUICK | changes).items() for part in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "kennel.classifier", "train", "--base-dir", str(job), *flags],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(kernels)},
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def test_a_compiled_network_learns_and_leaves_an_ordinary_artifact(tmp_path: Path, kernels: Path) -> None:
    output = train(tmp_path, kernels, compile="on", epochs="5")
    assert "epoch=5/5" in output
    assert len(list(kernels.rglob("*.cpp"))) > 10  # it was compiled, not passed over
    assert json.loads((tmp_path / "output/data/test_summary.json").read_text())["accuracy"] == 1.0  # red and blue noise
    names = build("resnet18", 2).state_dict().keys()
    assert load_artifact(tmp_path / "model")[0].state_dict().keys() == names
    saved = list((tmp_path / "checkpoints").glob("*.pt"))
    assert saved
    for path in saved:
        state = torch.load(path, weights_only=True)
        assert state["model"].keys() == state["best_state"].keys() == names
    predictor = Predictor.load(tmp_path / "model", torch.device("cpu"))
    for target, name in enumerate(("blue", "red")):
        photos = sorted((tmp_path / "input/data/test" / name).iterdir())
        answers = predictor.probabilities(torch.stack([predictor.tensor(photo) for photo in photos]))
        assert answers.argmax(1).tolist() == [target] * len(photos)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """L2 norm of the difference between all weights, batch statistics left out."""
    names = [name for name, _ in build("resnet18", 2).named_parameters()]
    return float(torch.cat([(one[name] - other[name]).flatten() for name in names]).norm())


def test_a_compiled_step_moves_the_weights_as_a_plain_one_does(tmp_path: Path, kernels: Path) -> None:
    # One step with all images: a further one makes a rounding difference about 35 times as large, compiled or not,
    # because the first convolution is far from convergence and the last batch norms see one pixel an image.
    gentle = {"epochs": "1", "batch-size": "24", "optimizer": "sgd", "momentum": "0", "weight-decay": "0"}
    states = {}
    for name, choice, lr in (("fresh", "off", "1e-8"), ("plain", "off", "0.001"), ("compiled", "on", "0.001")):
        train(tmp_path / name, kernels, compile=choice, lr=lr, **gentle)
        states[name] = load_artifact(tmp_path / name / "model")[0].state_dict()
    fresh, plain, compiled = states["fresh"], states["plain"], states["compiled"]
    assert distance(plain, fresh) > 1e-3
    assert distance(compiled, plain) < 0.02 * distance(plain, fresh)
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_a_compiler_that_does_not_work_is_one_sentence(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", shutil.which("false") or "false")
    with start(job, compile="on") as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "compile=on: torch cannot compile the network (InvalidCxxCompiler" in failure(job)
    assert "Traceback" not in output


def test_a_compiler_that_is_not_there_is_refused_before_the_images_are_read(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with start(job, compile="on") as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "the C++ compiler 'no-such-compiler', and there is none here. Set compile=off" in failure(job)
    assert "Channel" not in output
