"""The command against the real local SageMaker: processes, HTTP, no account."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kennel import driver
from kennel.driver.errors import DriverError
from kennel.driver.session import connection
from kennel.driver.session.home import Home
from kennel.driver.session.session import Session
from tests.driver.conftest import Kennel

QUICK = ("epochs=3", "checkpoint_minutes=0.05")


@pytest.fixture
def local(kennel: Kennel) -> Iterator[Kennel]:
    """A home whose images are small programs; the server that a command starts in it is ended."""
    kennel.home.mkdir()
    program = [sys.executable, str(Path(__file__).with_name("trainer.py"))]
    (kennel.home / "images.json").write_text(json.dumps({"kennel-train": program}))
    kennel.write_project('runner = "process"\n')
    yield kennel
    with contextlib.suppress(DriverError):
        connection.stop(Home(kennel.home))


def session_of(kennel: Kennel, **settings: object) -> Session:
    made = driver.session(kennel.folder / "kennel.toml", quiet=True, **settings)
    made.home = Home(kennel.home)
    return made


def test_the_first_command_starts_the_server_and_down_ends_it(local: Kennel) -> None:
    assert "not running" in local("status").out
    first = local("jobs")
    assert (first.code, first.out) == (0, "No jobs.\n")
    assert "Starting the local SageMaker" in first.err
    assert local("jobs").err == ""  # it runs already
    running = connection.find(Home(local.home))
    assert running is not None
    assert local("up", "--json").json["pid"] == running.pid
    assert (local.home / "credentials.json").stat().st_mode & 0o077 == 0
    assert local("down").out == "The local SageMaker has ended.\n"
    assert connection.find(Home(local.home)) is None
    assert local("down").out == "The local SageMaker does not run.\n"


def test_many_first_commands_start_one_server(local: Kennel) -> None:
    command = [sys.executable, "-m", "kennel.driver", "up", "--json", "--runner", "process"]
    environ = {**os.environ, "KENNEL_HOME": str(local.home)}
    children = [
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(4)
    ]
    pids = {json.loads(child.communicate(timeout=60)[0])["pid"] for child in children}
    assert len(pids) == 1


def test_a_server_that_cannot_start_says_why(local: Kennel) -> None:
    (local.home / "credentials.json").write_text("{")
    done = local("up")
    assert done.code == 1
    assert "The local SageMaker ended with status 1" in done.err
    assert "credentials.json" in done.err
    assert "server.log" in done.err


def test_other_clients_need_only_what_env_prints(local: Kennel) -> None:
    printed = local("env").out
    code = "import boto3; print(boto3.client('sagemaker').list_training_jobs()['TrainingJobSummaries'])"
    clean = "for name in ${!AWS_*}; do unset $name; done"
    done = subprocess.run(
        ["bash", "-c", f'{clean}\n{printed}\n{sys.executable} -c "{code}"'], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
    assert local("env", "--unset").out.startswith("unset AWS_ENDPOINT_URL_SAGEMAKER ")
    variables = dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())
    refused = local("jobs", "--on", "aws", **variables)
    assert "points to the local SageMaker, so --on aws would not reach AWS" in refused.err


def test_a_job_is_followed_to_its_metrics_and_artifact(local: Kennel, dataset: Path) -> None:
    done = local("train", dataset, *QUICK, "--name", "job1", "--json")
    result = done.json
    assert result["status"] == "Completed"
    assert result["metrics"] == {"train_loss": pytest.approx(1 / 3), "validation_accuracy": 1.0}
    assert "epoch 3/3  train_loss 0.3333  validation_accuracy 1.0000" in done.err.splitlines()
    artifact = Path(urlsplit(result["artifact"]).path)
    with tarfile.open(artifact) as tar:
        assert [name.removeprefix("./") for name in tar.getnames() if name.endswith("json")] == ["meta.json"]
    assert local("logs", "job1").out.startswith("channels test train validation\nepoch=1/3 ")
    [listed] = local("jobs", "--json").json
    assert (listed["job"], listed["status"]) == ("job1", "Completed")
    lines = [json.loads(line) for line in local("logs", "job1", "--json").out.splitlines()]
    assert lines[0]["stream"].startswith("job1/")


def test_a_folder_with_a_space_and_a_foreign_letter_arrives(local: Kennel, dataset: Path) -> None:
    odd = dataset.rename(dataset.with_name("my hünde"))
    done = local("train", odd, *QUICK)
    assert done.code == 0, done.err


def test_a_failed_job_is_one_sentence_with_its_reason(local: Kennel, dataset: Path) -> None:
    done = local("train", dataset, *QUICK, "seed=13", "--name", "bad")
    assert done.code == 1
    assert "kennel: Job bad failed: " in done.err
    assert "thirteen brings bad luck" in done.err
    assert "kennel logs bad" in done.err
    assert "Traceback" not in done.err


def test_ctrl_c_leaves_the_job_and_logs_follow_it(local: Kennel, dataset: Path) -> None:
    words = ["train", dataset, "epochs=900", "checkpoint_minutes=0.1", "--name", "long", "--logs"]
    rest = local.interrupted(*words, after="epoch=2/900")
    assert "Job long goes on. kennel logs -f long follows it, kennel stop long ends it." in rest
    assert "Traceback" not in rest
    assert local("jobs", "--json").json[0]["status"] == "InProgress"
    assert local("stop", "long").out == "long is asked to stop\n"
    followed = local("logs", "-f", "long")
    assert followed.out.startswith("channels ")
    assert "Job long is Stopped" in followed.err
    assert local("jobs", "--json").json[0]["status"] == "Stopped"


def test_clean_stops_what_runs_and_is_repeatable(local: Kennel, dataset: Path) -> None:
    assert local("train", dataset, "epochs=900", "checkpoint_minutes=0.1", "--name", "long", "--no-wait").code == 0
    assert local("clean", "--dry-run").out == "would delete\ntraining-job  long\n"
    done = local("clean")
    assert (done.code, done.out) == (0, "deleted  training-job  long\n"), done.err
    assert local("jobs").out == "No jobs.\n"
    assert local("clean").out == "Nothing to delete.\n"
    [row] = local("cost", "--json").json["resources"]
    assert (row["remark"], row["usd"]) == ("local", 0.0)


def test_jobs_survive_down_and_up(local: Kennel, dataset: Path) -> None:
    assert local("train", dataset, *QUICK, "--name", "job1").code == 0
    assert local("down").code == 0
    assert local("jobs", "--json").json[0]["status"] == "Completed"
    taken = local("train", dataset, *QUICK, "--name", "job1")
    assert taken.code == 1
    assert "kennel: CreateTrainingJob: " in taken.err
    assert local("clean", "--dry-run").out == "would delete\ntraining-job  job1\n"  # the first one is still recorded


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["logs", "nobody"], "kennel: There is no training job 'nobody' on local."),
        (["logs", "nobody", "--endpoint"], "kennel: There is no endpoint 'nobody' on local."),
        (["logs", "nobody", "--transform"], "kennel: There is no transform job 'nobody' on local."),
        (["stop", "nobody"], "kennel: There is no training job 'nobody' on local."),
        (
            ["deploy", "nobody"],
            "kennel: There is no job 'nobody' on local, and no file or folder of that name.",
        ),
    ],
)
def test_a_name_that_is_none_is_a_sentence_and_a_hint(local: Kennel, words: list[str], said: str) -> None:
    done = local(*words)
    assert done.code == 1
    assert done.out == ""
    assert said in done.err.splitlines()
    assert done.err.splitlines()[-1].startswith("        kennel ")


def test_status_names_what_runs(local: Kennel, dataset: Path) -> None:
    assert local("train", dataset, "epochs=900", "checkpoint_minutes=0.1", "--name", "long", "--no-wait").code == 0
    assert local("train", dataset, *QUICK, "--name", "short").code == 0
    state = local("status", "--json").json
    assert state["jobs"] == {"long": "InProgress"}
    assert (state["tuning_jobs"], state["transform_jobs"], state["endpoints"], state["recorded"]) == ({}, {}, {}, 2)
    assert state["emulator"]["runner"] == "process"
    shown = local("status").out
    assert "\njobs             long (InProgress)\n" in shown
    assert "\nendpoints        none\n" in shown
    assert local("stop", "long").code == 0
    assert local("stop", "short").err.startswith("kennel: Job short is Completed already.")


def test_up_says_what_it_cannot_change(local: Kennel) -> None:
    running = local("up", "--json").json
    port = int(running["url"].rpartition(":")[2])
    assert local("up", "--port", port, "--runner", "process", "--json").json == running
    other = local("up", "--port", port + 1)
    assert (other.code, f"It listens at {running['url']}, not on port {port + 1}." in other.err) == (1, True)
    other = local("up", "--runner", "docker")
    assert "It starts images with process, not with docker." in other.err
    assert "kennel down ends it" in other.err


def test_what_a_job_took_is_known_although_nobody_waited_for_it(local: Kennel, dataset: Path) -> None:
    assert local("train", dataset, *QUICK, "--name", "job1", "--no-wait").code == 0
    assert local("logs", "-f", "job1").code == 0
    assert local("down").code == 0
    assert local("up").code == 0
    [row] = local("cost", "--json").json["resources"]
    assert row["seconds"] >= 1


def test_a_notebook_has_the_same_functions(local: Kennel, dataset: Path) -> None:
    session = session_of(local, on="local")
    job = driver.train(dataset, session=session, name="job1", epochs=2, checkpoint_minutes=0.05)
    assert job.wait(timeout_s=60).status == "Completed"
    assert job.metrics["validation_accuracy"] == 1.0
    assert [epoch.number for epoch in job.epochs] == [1, 2]
    assert job.logs()[0].message.startswith("channels ")
    assert job.artifact.endswith("/job1/output/model.tar.gz")
    assert [found.name for found in driver.jobs(session)] == ["job1"]
    assert driver.job("job1", session).metrics == job.metrics
    assert repr(job) == "Job(name='job1')"
    bad = driver.train(dataset, session=session, epochs=2, checkpoint_minutes=0, seed=13)
    with pytest.raises(DriverError, match="thirteen brings bad luck"):
        bad.wait(timeout_s=60)
    slow = driver.train(dataset, session=session, name="slow", epochs=900, checkpoint_minutes=0.1)
    with pytest.raises(DriverError, match="Job slow is still"):
        slow.wait(timeout_s=0.1)
    slow.stop()
    deadline = time.monotonic() + 60
    while slow.status != "Stopped":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert {entry.name for entry in driver.clean(session).deleted} == {"job1", bad.name, "slow"}


def test_settings_and_hyperparameters_share_no_name() -> None:
    from kennel.contract.hyperparameters import HYPERPARAMETERS
    from kennel.driver import options

    assert not set(HYPERPARAMETERS) & {*options.TRAIN, "name", "channels", "session", "data"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: driver.train("x", session=s, epoch=3), "Unknown option 'epoch'. Did you mean 'epochs'?"),
        (lambda s: driver.train("x", session=s, instance_typ="y"), "'instance_typ'. Did you mean 'instance_type'?"),
        (lambda s: driver.train("x", session=s, spot="yes"), "'train.spot' is 'yes'; write true or false."),
        (lambda s: driver.tune("x", session=s, max_job=3), "Unknown option 'max_job'. Did you mean 'max_jobs'?"),
        (lambda s: driver.deploy("x", session=s, serverles=True, epochs=1), "Did you mean 'serverless'?"),
        (lambda s: driver.deploy("x", session=s, instance_count=0), "'deploy.instance_count' is 0; use at least 1."),
        (lambda s: driver.deploy("x", session=s), "There is no job 'x' on local, and no file or folder"),
        (lambda s: driver.transform("x", "y", session=s, max_concurent=1), "Did you mean 'max_concurrent'?"),
        (lambda _: driver.session(onn="aws"), "unknown key 'onn'. Did you mean 'on'?"),
        (lambda _: driver.session(**{"train.spott": True}), "unknown key 'train.spott'. Did you mean 'train.spot'?"),
        (lambda s: driver.job("x", s).wait(), "There is no training job 'x' on local."),
        (lambda s: driver.endpoint("x", s).status, "There is no endpoint 'x' on local."),
    ],
)
def test_a_slip_in_a_notebook_is_a_sentence(local: Kennel, call: Callable[[Session], object], said: str) -> None:
    with pytest.raises(driver.KennelError) as refused:
        call(session_of(local))
    assert said in str(refused.value)
