"""The trainer as users start it, over real folders."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from kennel.classifier.__main__ import main
from kennel.classifier.network.artifact import load_artifact
from kennel.classifier.network.model import build
from kennel.classifier.network.precision import half_precisions
from kennel.classifier.network.predictor import Predictor
from kennel.contract.files import write_json
from kennel.contract.metrics import metric_definitions
from kennel.contract.paths import ContainerPaths

QUICK = {
    "arch": "resnet18", "pretrained": "none", "crop_px": "32", "resize_px": "32", "batch_size": "8", "epochs": "1",
    "num_workers": "0", "warmup_epochs": "0", "debugger": "off", "profiler": "off",
    "precision": "fp32", "channels_last": "off",
}  # fmt: skip
Train = Callable[..., tuple[int, str]]


@pytest.fixture
def train(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Train]:
    """Run a job through the command line's own function; a process of its own would import torch anew each time."""
    before = signal.getsignal(signal.SIGTERM)

    def run(job: Path, **changes: str) -> tuple[int, str]:
        caplog.clear()
        write_json(ContainerPaths(job).hyperparameters_file, QUICK | changes)
        with caplog.at_level("INFO"):
            status = main(["train", "--base-dir", str(job)])
        return status, caplog.text + capfd.readouterr().err

    yield run
    signal.signal(signal.SIGTERM, before)


def start(job: Path, **changes: str) -> "subprocess.Popen[str]":
    """The same as a process: for signals, and for smdebug, which keeps one hook for the life of a process."""
    write_json(ContainerPaths(job).hyperparameters_file, QUICK | changes)
    return subprocess.Popen(
        [sys.executable, "-m", "kennel.classifier", "train"],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(job), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train_alone(job: Path, **changes: str) -> str:
    with start(job, **changes) as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def values(output: str, name: str) -> list[float]:
    regex = next(d["Regex"] for d in metric_definitions() if d["Name"] == name)
    return [float(value) for value in re.findall(regex, output)]


def weights(job: Path) -> bytes:
    return (job / "model/model.safetensors").read_bytes()


def failure(job: Path) -> str:
    return (job / "output/failure").read_text()


def test_a_job_learns_and_leaves_what_it_promises(train: Train, job: Path) -> None:
    status, output = train(job, epochs="4")
    assert status == 0, output
    assert len(values(output, "validation_accuracy")) == 4
    assert values(output, "test_accuracy") == [1.0]  # red and blue noise: a few steps are enough
    _, meta = load_artifact(job / "model")
    assert meta.classes == ("blue", "red")
    assert meta.hyperparameters["epochs"] == 4
    assert meta.metrics["test_accuracy"] == 1.0
    assert meta.data["train_images"] == 24
    assert len((job / "output/data/metrics.jsonl").read_text().splitlines()) == 4
    assert not (job / "output/failure").exists()
    left = {path.name for path in (job / "output/data").iterdir()}
    assert left == {
        "metrics.jsonl", "test_predictions.jsonl", "test_summary.json", "learning_curves.png", "test_confusion.png",
        "test_reliability.png",
    }  # fmt: skip


def test_the_predictions_file_is_what_the_artifact_answers(train: Train, job: Path) -> None:
    assert train(job)[0] == 0
    predictor = Predictor.load(job / "model", torch.device("cpu"))
    rows = [json.loads(line) for line in (job / "output/data/test_predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    for row in rows:
        image = predictor.tensor(job / "input/data/test" / row["path"])
        answer = predictor.probabilities(image[None])[0]
        torch.testing.assert_close(answer, torch.tensor(row["probabilities"]), atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_weights(train: Train, job: Path) -> None:
    found = []
    for seed in ("0", "0", "1"):
        assert train(job, seed=seed)[0] == 0
        found.append(weights(job))
    assert found[0] == found[1] != found[2]


def test_bad_hyperparameters_are_all_named_in_the_failure_file(train: Train, job: Path) -> None:
    status, output = train(job, epochs="none", learning_rate="1")
    assert status == 1
    assert "'epochs' has value 'none'. Use a number in 1..10000." in failure(job)
    assert "Unknown hyperparameter 'learning_rate'" in failure(job)
    assert "Traceback" not in output


def test_flags_override_the_file_and_unknown_ones_are_refused(
    train: Train, job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(job)[0] == 0
    assert main(["train", "--base-dir", str(job), "--epoch", "1"]) == 1
    assert "Did you mean 'epochs'?" in capfd.readouterr().err
    assert main(["train", "--base-dir", str(job), "--epochs=1", "--batch-size", "12"]) == 0
    _, meta = load_artifact(job / "model")
    assert (meta.hyperparameters["epochs"], meta.hyperparameters["batch_size"]) == (1, 12)


def test_a_job_without_a_train_channel_says_so(train: Train, tmp_path: Path) -> None:
    (tmp_path / "input/data/training").mkdir(parents=True)
    assert train(tmp_path)[0] == 1
    assert "No channel 'train'" in failure(tmp_path)
    assert "channels there: training" in failure(tmp_path)


def test_weights_that_cannot_be_had_are_never_replaced_by_random_ones(train: Train, job: Path) -> None:
    assert train(job, pretrained="channel")[0] == 1
    assert "no channel named 'pretrained'" in failure(job)


def test_diverging_from_the_start_fails_with_advice(train: Train, job: Path) -> None:
    assert train(job, lr="100", optimizer="sgd", momentum="0.99")[0] == 1
    assert "have diverged. Lower lr (now 100)" in failure(job)


def test_a_fault_of_our_own_leaves_its_type_and_place_in_the_failure_file(train: Train, job: Path) -> None:
    (job / "model").write_text("a file where the artifact's folder should be")
    status, output = train(job)
    assert status == 1
    assert "FileExistsError" in failure(job)
    assert "Traceback" in output


def test_sigterm_ends_the_epoch_and_keeps_the_artifact(job: Path) -> None:
    with start(job, epochs="1000") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch=2/"):
                break
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output = process.stdout.read()
        assert process.wait(timeout=60) == 0, output
    assert time.monotonic() - asked < 60  # the platform gives 120 s
    assert "SIGTERM: stopped in epoch" in output
    assert load_artifact(job / "model")[1].metrics["best_epoch"] >= 1


def test_head_only_training_changes_nothing_but_the_head(train: Train, job: Path) -> None:
    torch.manual_seed(5)
    source = build("resnet18", 7).state_dict()
    (job / "input/data/pretrained").mkdir()
    torch.save(source, job / "input/data/pretrained/resnet18.pth")
    status, output = train(job, pretrained="auto", train_layers="head")
    assert status == 0, output
    assert "Training 1026 of 11177538 weights" in output
    trained = load_artifact(job / "model")[0].state_dict()
    assert {name for name, tensor in source.items() if not torch.equal(trained[name], tensor)} == {
        "fc.weight",
        "fc.bias",
    }


READER = """
import sys
from smdebug import modes
from smdebug.trials import create_trial
trial = create_trial(sys.argv[1])
loss = trial.tensor('CrossEntropyLoss_output_0')
assert len(loss.steps(mode=modes.TRAIN)) == 3, loss.steps(mode=modes.TRAIN)
assert len(loss.steps(mode=modes.EVAL)) == 1, loss.steps(mode=modes.EVAL)
gradient = trial.tensor('gradient/ResNet_fc.weight')
step = gradient.steps(mode=modes.TRAIN)[0]
assert gradient.reduction_value(step, 'l2', mode=modes.TRAIN) > 0
assert any(name.endswith('relu_output_0') for name in trial.tensor_names())
assert trial.loaded_all_steps
"""


def test_the_debugger_writes_a_trial_that_smdebug_reads_and_changes_nothing(train: Train, job: Path) -> None:
    assert train(job)[0] == 0
    without = weights(job)
    train_alone(job, debugger="auto")
    assert weights(job) == without
    command = [sys.executable, "-c", READER, str(job / "output/data/tensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_debugger_saves_activations_of_mixed_precision(job: Path) -> None:
    if "bf16" not in half_precisions(torch.device("cpu")):
        pytest.skip("this CPU has no bf16 arithmetic")
    output = train_alone(job, debugger="auto", precision="bf16")
    assert "Precision: bf16" in output
    assert "SMDebug error" not in output
    assert len(list((job / "output/data/tensors/events").iterdir())) >= 3


def test_every_part_of_the_recipe_works_with_every_other(train: Train, job: Path) -> None:
    recipe = {
        "mixup": "0.2", "cutmix": "1.0", "augment": "trivialaugment", "ema_decay": "0.9", "clip_norm": "1",
        "accumulate_steps": "2", "sampling": "balanced", "class_weights": "balanced", "schedule": "onecycle",
        "backbone_lr_factor": "0.5", "train_layers": "layer2", "label_smoothing": "0.1", "optimizer": "sgd",
    }  # fmt: skip
    status, output = train(job, epochs="2", **recipe)
    assert status == 0, output
    assert load_artifact(job / "model")[1].hyperparameters["mixup"] == 0.2


def test_patience_ends_a_run_that_no_longer_gets_better(train: Train, job: Path) -> None:
    status, output = train(job, epochs="40", patience="2", lr="1e-8")  # learns nothing: no epoch beats an early one
    assert status == 0, output
    assert "training ends here (patience=2)" in output
    assert "epoch=40/40" not in output


def test_compiling_beside_the_debugger_is_refused_with_the_reason(train: Train, job: Path) -> None:
    assert train(job, compile="on", debugger="auto")[0] == 1
    assert "compile=on and the debugger exclude each other" in failure(job)


def test_accumulated_gradients_equal_those_of_the_whole_batch(train: Train, job: Path) -> None:
    # with a frozen backbone no batch statistics move, so two halves add up to the whole
    same = {"train_layers": "head", "optimizer": "sgd", "momentum": "0", "lr": "0.1", "weight_decay": "0"}
    assert train(job, batch_size="24", **same)[0] == 0
    whole = load_artifact(job / "model")[0].state_dict()
    assert train(job, batch_size="12", accumulate_steps="2", **same)[0] == 0
    halves = load_artifact(job / "model")[0].state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(halves[name], tensor, atol=1e-5, rtol=1e-4)


def test_the_requests_hook_configuration_is_followed(job: Path) -> None:
    tensors = job / "output/tensors"
    configuration = {
        "LocalPath": str(tensors),
        "HookParameters": {"train.save_interval": "1"},
        "CollectionConfigurations": [{"CollectionName": "losses"}],
    }
    write_json(ContainerPaths(job).debug_hook_config_file, configuration)
    assert "smdebug hook by debughookconfig.json" in train_alone(job, debugger="auto")
    assert len(list((tensors / "events").iterdir())) >= 3


def test_predict_prints_one_json_line_a_photo(train: Train, job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(job, epochs="4")[0] == 0
    photos = [str(path) for path in sorted((job / "input/data/test/blue").iterdir())[:2]]
    capfd.readouterr()
    assert main(["predict", str(job / "model"), *photos, "--top", "1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["predictions"][0]["label"] for line in lines] == ["blue", "blue"]
    gone = str(job / "gone.jpg")
    assert main(["predict", str(job / "model"), gone]) == 1
    assert capfd.readouterr().err == f"error: {gone}: cannot be read: No such file or directory.\n"
    assert main(["predict", str(job), photos[0]]) == 1
    assert capfd.readouterr().err.startswith("error: ")
