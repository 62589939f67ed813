"""A run that is stopped and goes on ends as if it had never been stopped, to the bit."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kennel.classifier.network.artifact import load_artifact
from kennel.classifier.training.checkpoints import CheckpointFolder
from kennel.contract.files import write_json
from kennel.contract.paths import ContainerPaths
from tests.classifier.test_train import QUICK, Train, failure, start, train, weights  # noqa: F401 - train is a fixture

pytestmark = pytest.mark.slow

# A network with dropout and batch statistics, so that random state and buffers have to come back as well.
RUN = {
    "arch": "mobilenet_v3_small",
    "epochs": "3",
    "batch_size": "4",
    "ema_decay": "0.9",
    "checkpoints": "on",
    "checkpoint_minutes": "0",
}


# Children of one process that has imported torch already: twenty kills then take seconds, not minutes.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import kennel.classifier.training.run
from kennel.classifier.__main__ import main

rng, kills = random.Random(0), 0
while kills < 20:
    child = os.fork()
    if child == 0:
        os._exit(main(["train", "--base-dir", sys.argv[1]]))
    time.sleep(rng.uniform(0.0, float(sys.argv[2])))
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGKILL:
        kills += 1
        continue
    assert status == 0, status
    # It came to its end before the kill: go back to an earlier moment, so that the next kill hits a run at work.
    saved = sorted(Path(sys.argv[1], "checkpoints").glob("checkpoint-*.pt"))
    for path in saved[rng.randrange(2):]:
        path.unlink()
print("kills", kills)
"""


def checkpoints(job: Path) -> list[Path]:
    return sorted((job / "checkpoints").glob("checkpoint-*.pt"))


def go(train: Train, job: Path, **changes: str) -> str:  # noqa: F811 - the fixture's value
    status, output = train(job, **RUN | changes)
    assert status == 0, output
    return output


def uninterrupted(job: Path, train: Train) -> bytes:  # noqa: F811 - the fixture's value
    go(train, job, checkpoints="off")
    return weights(job)


def test_twenty_kills_at_random_moments_change_nothing_to_the_bit(train: Train, job: Path) -> None:  # noqa: F811
    started = time.monotonic()
    expected = uninterrupted(job, train)
    whole_run_s = time.monotonic() - started
    (job / "model/model.safetensors").unlink()
    write_json(ContainerPaths(job).hyperparameters_file, QUICK | RUN)
    command = [sys.executable, "-u", "-c", KILLER, str(job), str(whole_run_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert "kills 20" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Resumed at epoch" in done.stdout
    go(train, job)
    assert weights(job) == expected


def test_sigterm_in_the_middle_of_an_epoch_loses_no_step(train: Train, job: Path) -> None:  # noqa: F811
    expected = uninterrupted(job, train)
    stopped = 0
    while stopped < 2:
        with start(job, **RUN) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("Precision:"):
                    break
            time.sleep(0.2 * stopped)
            process.send_signal(signal.SIGTERM)
            output = process.stdout.read()
            assert process.wait(timeout=60) == 0, output
        assert "SIGTERM: stopped in epoch" in output, "the run was over before the signal; give it more epochs"
        stopped += 1
        assert load_artifact(job / "model")  # artefacts are kept, whatever the moment
    go(train, job)
    assert weights(job) == expected


def test_a_damaged_last_checkpoint_is_passed_over_and_nothing_else(train: Train, job: Path) -> None:  # noqa: F811
    expected = uninterrupted(job, train)
    go(train, job)
    last = checkpoints(job)[-1]
    last.write_bytes(last.read_bytes()[:-100])
    output = go(train, job)
    assert f"Damaged and passed over: {last.name}" in output
    assert "Resumed at epoch 3, step 5 of 6" in output
    assert weights(job) == expected


def test_a_finished_run_is_only_reported_again(train: Train, job: Path) -> None:  # noqa: F811
    go(train, job)
    first = weights(job)
    output = go(train, job)
    assert "epoch=1/3" not in output
    assert weights(job) == first


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(train: Train, job: Path) -> None:  # noqa: F811
    go(train, job)
    assert train(job, **RUN | {"lr": "0.5"})[0] == 1
    assert "The checkpoint was made with lr=0.001, this run has 0.5." in failure(job)
    next((job / "input/data/train").rglob("*.jpg")).unlink()
    assert train(job, **RUN)[0] == 1
    assert "made with fingerprint=" in failure(job)


def test_without_a_checkpoint_folder_nothing_is_written(train: Train, job: Path) -> None:  # noqa: F811
    assert train(job)[0] == 0
    assert not (job / "checkpoints").exists()
    (job / "checkpoints").mkdir()  # as the platform makes it for a request with a CheckpointConfig
    assert train(job)[0] == 0
    assert len(checkpoints(job)) == 1


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(train: Train, job: Path) -> None:  # noqa: F811
    (job / "checkpoints").write_text("a file where the folder should be")
    status, output = train(job, checkpoints="on")
    assert status == 0
    assert "No checkpoint at step" in output
    assert load_artifact(job / "model")


@pytest.mark.parametrize("name", ["rng", "optimizer", "scheduler"])
def test_without_one_part_of_the_state_a_resumed_run_ends_elsewhere(
    train: Train,  # noqa: F811
    job: Path,
    name: str,
) -> None:
    expected = uninterrupted(job, train)
    go(train, job)
    folder = CheckpointFolder(job / "checkpoints", keep=2)
    for path in checkpoints(job)[1:]:
        path.unlink()
    state = folder.load()
    assert state is not None
    checkpoints(job)[0].unlink()
    if name == "rng":
        state["rng"] = [torch.Generator().manual_seed(1).get_state()]  # one a process
    elif name == "optimizer":
        state["optimizer"]["state"] = {}
    else:
        state["scheduler"]["last_epoch"] = 0
    folder.save(state, 1)
    go(train, job)
    assert weights(job) != expected
