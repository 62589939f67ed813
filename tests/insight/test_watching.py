"""Rules beside the real trainer: findings are logged and written, may stop it, and never hurt it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TINY = {
    "arch": "squeezenet1_1", "pretrained": "none", "batch_size": "4", "resize_px": "40", "crop_px": "32",
    "num_workers": "0", "precision": "fp32", "channels_last": "off", "warmup_epochs": "0",
}  # fmt: skip


def train(job: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kennel.classifier", "train", "--base-dir", str(job)]
    for name, value in (TINY | changes).items():
        command += [f"--{name}", str(value)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}  # the rules get what a busy machine has left
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=280, check=False)


def findings(job: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((job / "output/data/findings.json").read_text())
    return value


def test_a_training_leaves_the_verdicts_of_its_rules(job: Path) -> None:
    done = train(job, epochs=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Rules: auto beside the training" in done.stdout
    found = findings(job)
    assert found["ended"]
    assert found["steps"] > 10
    assert {row["rule"]: row["status"] for row in found["rules"]}["ExplodingTensor"] == "NoIssuesFound"
    assert found["notes"] == []


def test_a_rule_that_fires_stops_the_training_and_what_it_learnt_is_kept(job: Path) -> None:
    """A learning rate of almost nothing, and epochs without end: the rule ends it."""
    rules = {"rules": "LossNotDecreasing:least_losses=5", "stop_on": "LossNotDecreasing"}
    done = train(job, epochs=5000, lr=1e-8, optimizer="sgd", **rules)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Finding: LossNotDecreasing" in done.stdout
    assert "Action StopTraining: LossNotDecreasing is in stop_on." in done.stdout
    assert "A rule fired: stopped in epoch" in done.stdout
    assert findings(job)["findings"][0]["rule"] == "LossNotDecreasing"
    assert (job / "model/meta.json").is_file()
    assert (job / "output/data/test_summary.json").is_file()  # nobody waits with SIGKILL


def test_rules_can_be_off(job: Path) -> None:
    done = train(job, epochs=1, rules="off")
    assert done.returncode == 0
    assert "Rules:" not in done.stdout
    assert not (job / "output/data/findings.json").exists()
    done = train(job, epochs=1, debugger="off")
    assert "Rules:" not in done.stdout


def test_names_that_are_none_are_refused_before_the_training(job: Path) -> None:
    done = train(job, rules="DeadReLU:threshold_layer=30", stop_on="auto")
    assert done.returncode == 1
    assert "'DeadReLU' is none of its words. Did you mean 'DeadRelu'?" in done.stderr
    assert "Hyperparameter 'stop_on' has value 'auto'" in done.stderr


def test_parameters_that_are_none_leave_the_training_alone(job: Path) -> None:
    done = train(job, epochs=1, rules="DeadRelu:treshold_layer=30,ExplodingTensor")
    assert done.returncode == 0, done.stdout + done.stderr
    dead, other = findings(job)["rules"]
    assert (dead["status"], other["status"]) == ("Error", "NoIssuesFound")
    assert "did you mean 'threshold_layer'?" in dead["detail"]


@pytest.fixture
def watch(tmp_path: Path) -> Any:
    """The program as the trainer starts it, and the end of the pipe that ends it."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kennel.insight", "watch", str(folder), "--output", str(tmp_path / "f.json")]
        process = subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe
            pipe.close()


def test_it_runs_at_the_lowest_priority_and_ends_with_its_pipe(trainings: Path, watch: Any, tmp_path: Path) -> None:
    process = watch(trainings / "dead_relu", "--rules", "DeadRelu")
    assert process.stdout.readline().startswith("Finding: DeadRelu, TRAIN step 0: 100 % of the 8 nodes")
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
    assert not json.loads((tmp_path / "f.json").read_text())["ended"]
    process.stdin.close()
    assert process.wait(60) == 0
    assert json.loads((tmp_path / "f.json").read_text())["ended"]


def test_it_ends_when_the_trainer_is_killed(tmp_path: Path) -> None:
    """The pipe is the kernel's to close, however its holder dies."""
    code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-m', 'kennel.insight', 'watch', {str(tmp_path)!r},"
        f" '--output', {str(tmp_path / 'f.json')!r}], stdin=subprocess.PIPE)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout
        pid = int(trainer.stdout.readline())
        trainer.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/status").exists() and "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "it goes on without its trainer"
        time.sleep(0.1)
    assert json.loads((tmp_path / "f.json").read_text())["ended"]
