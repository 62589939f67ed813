"""`kennel tune` against the real local SageMaker: real trials, as small processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kennel import driver
from kennel.contract.hyperparameters import HYPERPARAMETERS
from kennel.driver.endpoints import artifacts
from kennel.driver.errors import DriverError
from kennel.driver.jobs import trials
from kennel.driver.session import connection
from kennel.driver.session.home import Home
from kennel.driver.session.session import Session
from tests.driver.conftest import Kennel
from tests.emulator.emulator_harness import wait_for

SEARCH = ("--tune", "lr=log:1e-5..1e-1", "--strategy", "random", "--seed", "5", "epochs=2")


@pytest.fixture
def local(kennel: Kennel) -> Iterator[Kennel]:
    """A home whose train image is a small program; the server that a command starts in it is ended."""
    kennel.home.mkdir()
    program = [sys.executable, str(Path(__file__).with_name("tuned_trainer.py"))]
    (kennel.home / "images.json").write_text(json.dumps({"kennel-train": program}))
    kennel.write_project('runner = "process"\n[tune]\nmax_jobs = 4\n')
    yield kennel
    with contextlib.suppress(DriverError):
        connection.stop(Home(kennel.home))


def session_of(kennel: Kennel) -> Session:
    made = driver.session(kennel.folder / "kennel.toml", quiet=True)
    made.home = Home(kennel.home)
    return made


def test_a_tuning_job_from_its_start_to_its_cleaning(local: Kennel, dataset: Path) -> None:
    done = local("tune", dataset, *SEARCH, "--name", "first")
    assert done.code == 0, done.err
    assert "4 trials by Random, 2 at a time: lr log:1e-5..1e-1" in done.err
    assert done.err.count("  completed") == 4
    found = local("tune", "show", "first", "--json").json
    best = max(found["trials"], key=lambda trial: trial["value"])
    assert found["best"] == best["name"]
    assert [trial["why"] for trial in found["trials"]] == ["completed"] * 4
    assert f"best        trial {best['number']}, validation_accuracy {best['value']:.4f}" in done.out
    assert "Importance needs 5 trials with a result; there are 4." in local("tune", "show", "first").out
    assert "<h1>first</h1>" in Path(found["page"]).read_text()
    listed = local("tune", "jobs").out.splitlines()
    assert listed[1].startswith("first       Completed  Random    4 completed")

    won = local("tune", "show", "first", "--best").out
    assert json.loads(won) == {**best["hyperparameters"], "epochs": "2"}
    request = json.loads(local("train", "epochs=5", "--from-tuning", "first", "--dry-run").out)
    assert request["HyperParameters"] == {**best["hyperparameters"], "epochs": "5"}
    assert {channel["ChannelName"] for channel in request["InputDataConfig"]} == {"train", "validation", "test"}
    assert artifacts.resolve(session_of(local), "first", "x").uri.endswith(f"/{best['name']}/output/model.tar.gz")

    cleaned = local("clean", "--json").json
    assert [(entry["kind"], entry["name"]) for entry in cleaned["deleted"]] == [("tuning-job", "first")]
    assert local("tune", "jobs").out == "No tuning jobs.\n"
    assert local("jobs").out == "No jobs.\n"


def test_each_trial_says_why_it_ended(local: Kennel, dataset: Path) -> None:
    words = ("--tune", "batch_size=8,13", "--strategy", "grid", "lr=0.001", "epochs=1", "--name", "luck")
    done = local("tune", dataset, *words)
    assert done.code == 0, done.err
    assert "trials      1 completed, 1 failed" in done.out or "trials      1 failed, 1 completed" in done.out
    assert "thirteen brings bad luck" in done.out
    assert "Traceback" not in done.err


@pytest.mark.skipif("stop_on" not in HYPERPARAMETERS, reason="the trainer has no stop_on")
def test_a_trial_that_a_rule_ended_is_pruned(local: Kennel, dataset: Path) -> None:
    words = ("--tune", "lr=0.1,0.001", "--strategy", "grid", "epochs=2", "--prune-on", "ExplodingTensor", "--name", "p")
    done = local("tune", dataset, *words, "--json")
    why = {trial["hyperparameters"]["lr"]: trial["why"] for trial in done.json["trials"]}
    assert why == {"0.1": "pruned by ExplodingTensor", "0.001": "completed"}
    assert done.json["static"]["stop_on"] == "ExplodingTensor"
    assert "stop_on" not in json.loads(local("tune", "show", "p", "--best").out)


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(local: Kennel, dataset: Path) -> None:
    """On a terminal, where a table is drawn meanwhile."""
    words = ["tune", str(dataset), *SEARCH, "epochs=900", "checkpoint_minutes=0.1", "--name", "long"]
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "kennel.driver", *words],
        cwd=local.folder,
        env={**os.environ, "KENNEL_HOME": str(local.home), "TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    screen, seen = bytearray(), threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while part := os.read(master, 4096):
                screen.extend(part)
                if b"epoch " in screen and b"/900" in screen:
                    seen.set()

    reading = threading.Thread(target=read)
    reading.start()
    assert seen.wait(60), screen.decode()
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=30) == 130
    reading.join(timeout=10)
    os.close(master)
    text = screen.decode()
    assert "Ctrl-C leaves it running" in text
    assert "Tuning job long goes on. kennel tune show long shows how it is" in text
    assert "Traceback" not in text
    assert local("tune", "stop", "long").out == "long is asked to stop\n"
    followed = local("tune", "show", "long", "-f", "--json").json
    assert followed["status"] == "Stopped"
    assert {trial["why"] for trial in followed["trials"]} == {"stopped with the tuning job"}


def test_the_last_trial_was_not_stopped_by_an_end_that_came_after_it(local: Kennel, dataset: Path) -> None:
    words = ("--max-jobs", "1", "--parallel", "1", "epochs=900", "checkpoint_minutes=0.1", "--name", "one", "--no-wait")
    local("tune", dataset, *SEARCH, *words)
    [trial] = wait_for(lambda: [t for t in trials.list_trials(session_of(local), "one") if t.value is not None])
    assert local("stop", trial.name).code == 0
    found = local("tune", "show", "one", "-f", "--json").json
    assert (found["status"], found["trials"][0]["why"]) == ("Completed", "stopped")


@pytest.mark.slow
def test_a_notebook_tunes_and_reads_the_trials(local: Kennel, dataset: Path) -> None:
    session = session_of(local)
    job = driver.tune(
        dataset, {"lr": "log:1e-5..1e-1"}, strategy="Random", max_jobs=2, seed=3, epochs=1, session=session, name="nb"
    ).wait(timeout_s=120)
    assert job.status == "Completed"
    assert len(job.trials) == 2
    best = max(job.trials, key=lambda trial: trial.value or 0)
    assert job.best.name == best.name
    assert job.best_hyperparameters == {**best.hyperparameters, "epochs": "1"}
    found = job.report(local.folder / "page.html")
    assert found.page == local.folder / "page.html"
    assert found.page.is_file()


def test_nothing_wrong_is_sent(local: Kennel, dataset: Path) -> None:
    for words, said in (
        (("--tune", "epoch=1..3"), "Unknown hyperparameter 'epoch' in the search space. Did you mean 'epochs'?"),
        ((), "Nothing is to be tuned."),
        (("--tune", "lr=1..2", "--objective", "validation:acc"), "Did you mean 'validation_accuracy'?"),
        (("--tune", "lr=1..2", "--strategy", "grid"), "A grid takes lists only"),
    ):
        done = local("tune", dataset, *words)
        assert done.code == 1
        assert said in done.err
    assert local("tune", "show", "nothing").code == 1
    assert local("deploy", "nothing").code == 1
    assert local("tune", "jobs").out == "No tuning jobs.\n"
