"""Warm pools: what waits, who gets it, and that nothing of one job is seen by the next."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from kennel.emulator.documents.training import life
from kennel.emulator.runners.base import CAN_WAIT_LABEL, STANDBY_LABEL
from kennel.emulator.runners.namespaces import possible
from kennel.emulator.threads.timers import Timers
from kennel.emulator.training.hosts import job_hosts
from kennel.emulator.training.standbys import Standbys
from tests.conftest import make_photos
from tests.emulator.jobs.conftest import BOOT, REGION, Platform, both, channel
from tests.emulator.jobs.test_training_kennel import SMALL
from tests.images import docker

WARM = "kennel-warm:test"
WAIT = (
    "import json, os, pathlib, sys, time\n"
    "if sys.argv[1] == 'standby':\n"
    "    base = pathlib.Path('.' if 'SAGEMAKER_BASE_DIR' in os.environ else '/opt/ml')\n"
    "    file, until, said = base / 'input/standby.json', time.monotonic() + float(sys.argv[2]), {}\n"
    "    while 'environ' not in said:\n"
    "        time.sleep(.01)\n"
    "        said = json.loads(file.read_text()) if file.exists() else {}\n"
    "        if time.monotonic() > until and not file.exists(): sys.exit(1)\n"
    "    file.unlink()\n"
    "    os.environ.update(said['environ'])\n"
    "    os.environ['WAITED'] = '1'\n"
)
TELL = "print(os.environ['TRAINING_JOB_NAME'], os.environ.get('WAITED', 'cold'))\n"
KEEP = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 600}, "AlgorithmSpecification": {"TrainingImage": WARM}}


@pytest.fixture
def warm(platform: Platform, request: pytest.FixtureRequest) -> Platform:
    """A platform with an image that can wait."""
    if platform.runner.name == "docker":
        lines = [f"FROM {request.getfixturevalue('tiny_image')}", f"LABEL {CAN_WAIT_LABEL}=standby"]
        lines += [f"ENTRYPOINT {json.dumps(['python3', '-u', '-c', WAIT + BOOT])}"]
        docker("build", "--quiet", "--tag", WARM, "-", input="\n".join(lines))
    images = json.loads(platform.home.images_file.read_text())
    images["kennel-warm"] = {"command": [sys.executable, "-u", "-c", WAIT + BOOT], "standby": "standby"}
    platform.home.images_file.write_text(json.dumps(images))
    return platform


def waiting(platform: Platform) -> dict[str, str]:
    return platform.runner.find(STANDBY_LABEL)


def pool(platform: Platform, name: str) -> tuple[str, str | None]:
    status = platform.describe(name)["WarmPoolStatus"]
    return status["Status"], status.get("ReusedByJob")


@both
def test_the_next_job_is_run_by_who_waits_and_leaves_another_one_waiting(warm: Platform) -> None:
    warm.complete(TELL, "first", **KEEP)
    assert warm.lines("first") == ["first cold"]
    [before] = waiting(warm)
    document = warm.complete(TELL + "(base / 'model/w').write_text('W')", "second", **KEEP)
    assert warm.lines("second") == ["second 1"]
    assert warm.members(name="second") == {"w": "W"}
    assert document["SecondaryStatus"] == "Completed"
    assert pool(warm, "first") == ("Reused", "second")
    assert pool(warm, "second") == ("Available", None)
    [after] = waiting(warm)
    assert after != before
    assert not warm.runner.find("kennel.job")


@both
def test_nothing_of_one_job_is_seen_by_the_next(warm: Platform, tmp_path: Path) -> None:
    leave = (
        "import subprocess\n"
        "for place in ('model', 'output', 'output/data', 'input', '.'):\n"
        "    (base / place / 'left').write_text('secret')\n"
        "os.environ['LEFT'] = 'secret'\n"
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    )
    look = (
        "print(sorted(str(p.relative_to(base)) for p in base.rglob('*') if not p.is_dir()))\n"
        "print(os.environ.get('LEFT'), sorted(n for n in os.environ if n.startswith('TRAINING')))\n"
    )
    channels = [channel("train", make_photos(tmp_path / "photos", images=1).as_uri())]
    warm.complete(leave, "first", InputDataConfig=channels, **KEEP)
    document = warm.complete(TELL + look, "second", InputDataConfig=channels, **KEEP)
    told, files, variables = warm.lines("second")
    assert told == "second 1"
    configured = [f"input/config/{name}.json" for name in ("hyperparameters", "inputdataconfig", "resourceconfig")]
    photos = ["input/data/train/blue/000.jpg", "input/data/train/red/000.jpg"]
    linked = warm.runner.name == "process" and not possible()
    seen = configured + ([] if linked else photos)
    assert files == str(seen)
    assert variables == "None ['TRAINING_JOB_ARN', 'TRAINING_JOB_NAME']"
    assert warm.members(name="second") == {}
    assert document["HyperParameters"]["program"] == TELL + look


@both
@pytest.mark.parametrize(
    "changes",
    [
        {"Environment": {"OMP_NUM_THREADS": "1"}},
        {"EnableNetworkIsolation": True, "same_pool": False},
        {"AlgorithmSpecification": {"TrainingImage": WARM, "ContainerArguments": ["train"]}},
        {"HyperParameters": {"sagemaker_program": "x.py"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_job_that_needs_something_else_is_started_as_ever(warm: Platform, changes: dict[str, Any]) -> None:
    same_pool = changes.get("same_pool", True)
    warm.complete(TELL, "first", **KEEP)
    [handle] = waiting(warm)
    members = {name: value for name, value in changes.items() if name != "same_pool"}
    warm.complete(TELL, "second", **(KEEP | members))
    assert warm.lines("second") == ["second cold"]
    assert pool(warm, "first") == (("Reused", "second") if same_pool else ("Available", None))
    assert (handle in waiting(warm)) is not same_pool  # who did not fit is not kept for nobody


@both
def test_data_of_another_place_needs_another_start(warm: Platform, tmp_path: Path) -> None:
    """What is mounted read-only is mounted before the program starts."""
    one, two = (channel("c", make_photos(tmp_path / name, images=1).as_uri()) for name in ("one", "two"))
    warm.complete(TELL, "first", InputDataConfig=[one], **KEEP)
    warm.complete(TELL + "print((base / 'input/data/c/red').is_dir())", "second", InputDataConfig=[two], **KEEP)
    late = warm.runner.name == "process" and not possible()
    assert warm.lines("second") == [f"second {1 if late else 'cold'}", "True"]


def test_checkpoints_of_its_own_come_to_who_waits(warm: Platform, tmp_path: Path) -> None:
    for name, told in (("first", "cold"), ("second", "1")):
        (tmp_path / name).mkdir()
        place = {"CheckpointConfig": {"S3Uri": (tmp_path / name).as_uri()}}
        warm.complete(TELL + "(base / 'checkpoints/c').write_text('c')", name, **place, **KEEP)
        assert warm.lines(name) == [f"{name} {told}"]
        assert (tmp_path / name / "c").read_text() == "c"


def test_who_was_given_away_but_never_began_is_not_taken_for_the_job(warm: Platform) -> None:
    """As when the emulator is killed between the two: it would wait for ever."""
    warm.complete(TELL, "first", **KEEP)
    warm.insert(TELL, "second", **KEEP)
    timers = Timers()
    standbys = Standbys(warm.home.path / "standby", warm.runner, timers)
    [host] = job_hosts(warm.describe("second"), warm.home.job_dir("second"), REGION)
    handle = standbys.take("first", host)
    timers.close(30)
    assert list(warm.runner.find("kennel.job", "second")) == [handle]
    warm.store.update("training-job", "second", lambda d: d.update(_life={**life(d).to_json(), "phase": "launching"}))
    warm.jobs.start("second")
    warm.jobs.wait("second", 30)
    assert warm.describe("second")["TrainingJobStatus"] == "Completed"
    assert warm.lines("second") == ["second cold"]
    assert handle not in warm.runner.find("kennel.job")


@both
def test_who_waits_is_found_again_after_a_kill_and_serves_the_next_emulator(warm: Platform) -> None:
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(warm.home.path), warm.runner.name]
    warm.insert(TELL, "first", **KEEP)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        warm.wait_for(lambda: warm.describe("first")["TrainingJobStatus"] == "Completed")
        server.kill()
    [handle] = waiting(warm)
    warm.jobs = warm.new_jobs()
    warm.jobs.recover()
    assert list(waiting(warm)) == [handle]
    warm.complete(TELL, "second", **KEEP)
    assert warm.lines("second") == ["second 1"]


@both
def test_a_job_that_was_given_who_waits_is_found_again_after_a_kill(warm: Platform) -> None:
    """The labels of a container cannot change; its new ones are kept beside it."""
    warm.complete(TELL, "first", **KEEP)
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(warm.home.path), warm.runner.name]
    go = warm.folder / "go"
    go.mkdir()
    program = TELL + "while not (base / 'checkpoints/on').exists(): time.sleep(.05)\nprint('end')"
    warm.insert(program, "second", CheckpointConfig={"S3Uri": go.as_uri()}, **KEEP)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        warm.wait_for(lambda: warm.lines("second"))
        server.kill()
    [handle] = warm.runner.find("kennel.job", "second")
    warm.jobs = warm.new_jobs()
    warm.jobs.recover()
    (go / "on").touch()
    warm.jobs.wait("second", 30)
    assert warm.describe("second")["TrainingJobStatus"] == "Completed"
    assert warm.lines("second")[-1] == "end"
    assert handle not in warm.runner.find("kennel.job")


@both
def test_who_has_died_is_not_given_away(warm: Platform) -> None:
    warm.complete(TELL, "first", **KEEP)
    [handle] = waiting(warm)
    warm.runner.kill(handle)
    time.sleep(0.5)
    warm.complete(TELL, "second", **KEEP)
    assert warm.lines("second") == ["second cold"]
    assert handle not in waiting(warm)


def test_stopping_a_job_that_was_given_who_waits_reaches_its_program(warm: Platform) -> None:
    warm.complete(TELL, "first", **KEEP)
    program = TELL + "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(0)))\ntime.sleep(100)"
    warm.start(program, "second", **KEEP)
    warm.wait_for(lambda: warm.lines("second"))
    warm.stop("second")
    warm.jobs.wait("second", 30)
    assert warm.describe("second")["TrainingJobStatus"] == "Stopped"
    assert warm.lines("second") == ["second 1", "saved"]
    assert pool(warm, "second") == ("Available", None)


def test_a_pool_whose_time_is_over_is_empty(warm: Platform) -> None:
    warm.complete(TELL, **(KEEP | {"ResourceConfig": {"KeepAlivePeriodInSeconds": 3}}))
    assert waiting(warm)
    warm.wait_for(lambda: pool(warm, "job")[0] == "Terminated")
    warm.wait_for(lambda: not waiting(warm))
    assert not list((warm.home.path / "standby").iterdir())


def test_a_job_that_fails_by_its_own_fault_leaves_a_pool_and_one_of_ours_does_not(warm: Platform) -> None:
    assert warm.run("sys.exit(3)", "algorithm", **KEEP)["TrainingJobStatus"] == "Failed"
    assert pool(warm, "algorithm") == ("Available", None)
    assert len(waiting(warm)) == 1
    missing = [channel("c", (warm.folder / "soon-gone").as_uri())]
    (warm.folder / "soon-gone").mkdir()
    warm.insert("", "client", InputDataConfig=missing, **KEEP)
    (warm.folder / "soon-gone").rmdir()
    warm.jobs.start("client")
    warm.jobs.wait("client", 30)
    assert warm.describe("client")["FailureReason"].startswith("ClientError: Data download failed")
    assert pool(warm, "client") == ("Available", None)


def test_deleting_a_job_ends_who_waits_in_its_pool(warm: Platform) -> None:
    warm.complete(TELL, **KEEP)
    assert waiting(warm)
    warm.jobs.delete("job")
    assert not waiting(warm)


def test_trials_that_share_a_pool_find_their_successor_started_while_they_run(warm: Platform) -> None:
    shared = {"_warm_pool": {"name": "tuning.t", "seconds": 600}, "AlgorithmSpecification": {"TrainingImage": WARM}}
    for number in range(3):
        document = warm.complete(TELL + "time.sleep(.5)", f"trial-{number}", **shared)
        assert "WarmPoolStatus" not in document
    assert [warm.lines(f"trial-{number}") for number in range(3)] == [["trial-0 cold"], ["trial-1 1"], ["trial-2 1"]]
    assert len(waiting(warm)) == 1


def test_no_more_than_four_wait_at_once(warm: Platform) -> None:
    for number in range(6):
        warm.complete("", f"job-{number}", RoleArn=f"role-{number}", **KEEP)
    assert len(waiting(warm)) == 4


def test_an_image_that_cannot_wait_is_told_so_in_the_warnings(platform: Platform) -> None:
    document = platform.complete("", ResourceConfig={"KeepAlivePeriodInSeconds": 600})
    assert document["WarmPoolStatus"]["Status"] == "Available"  # the machine is there, and its image
    assert "the image 'kennel-tiny:test' cannot be started before its job" in platform.warnings()


@pytest.mark.slow
def test_the_trainer_itself_waits_with_everything_imported(platform: Platform, tmp_path: Path) -> None:
    parts = {"train": 8, "validation": 3, "test": 3}
    channels = [
        channel(name, make_photos(tmp_path / name, images=images, seed=seed).as_uri())
        for seed, (name, images) in enumerate(parts.items())
    ]
    keep = {"KeepAlivePeriodInSeconds": 600}
    for name, epochs in (("first", "1"), ("second", "2")):
        members = {"InputDataConfig": channels, "ResourceConfig": keep, "HyperParameters": SMALL | {"epochs": epochs}}
        platform.insert("", name, AlgorithmSpecification={"TrainingImage": "kennel-train:1"}, **members)
        platform.store.update("training-job", name, lambda d: d["HyperParameters"].pop("program"))
        found = list(waiting(platform))
        platform.jobs.start(name)
        if name == "second":
            platform.wait_for(lambda: platform.runner.find("kennel.job", "second"))
            assert list(platform.runner.find("kennel.job", "second")) == found
        platform.jobs.wait(name, 120)
        assert platform.describe(name)["TrainingJobStatus"] == "Completed", platform.log(name)
    assert "epoch=2/2 " in platform.log("second")
    assert "epoch=1/1 " not in platform.log("second")
    with tarfile.open(platform.output_dir("second") / "model.tar.gz") as tar:
        assert {"meta.json", "model.safetensors"} <= set(tar.getnames())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="programs are forked on Linux only")
def test_trainings_that_follow_one_another_are_forked_from_one_that_has_everything_imported(
    platform: Platform, tmp_path: Path
) -> None:
    channels = [
        channel(name, make_photos(tmp_path / name, images=6, seed=seed).as_uri())
        for seed, name in enumerate(("train", "validation"))
    ]

    def train(name: str) -> None:
        platform.insert(
            "", name, AlgorithmSpecification={"TrainingImage": "kennel-train:1"}, InputDataConfig=channels,
            HyperParameters=SMALL | {"epochs": "1"}, _warm_pool={"name": "tuning.t", "seconds": 600},
        )  # fmt: skip
        platform.store.update("training-job", name, lambda d: d["HyperParameters"].pop("program"))
        platform.jobs.start(name)
        platform.jobs.wait(name, 120)
        assert platform.describe(name)["TrainingJobStatus"] == "Completed", platform.log(name)

    def is_forked() -> bool:
        [handle] = waiting(platform)
        return b"fork_server" in Path(f"/proc/{platform.runner.program(handle)}/cmdline").read_bytes()

    train("first")
    assert not is_forked()  # nobody waits for the first imports
    names = iter([f"trial-{number}" for number in range(10)])
    while not is_forked():
        train(next(names))
    train("last")
    assert "epoch=1/1 " in platform.log("last")
    with tarfile.open(platform.output_dir("last") / "model.tar.gz") as tar:
        assert {"meta.json", "model.safetensors"} <= set(tar.getnames())
