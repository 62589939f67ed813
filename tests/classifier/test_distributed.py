"""Several processes train as one does: the real commands, real processes, real signals."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from kennel.classifier.data.folder import scan
from kennel.classifier.network.artifact import load_artifact
from kennel.classifier.processes import launch
from kennel.classifier.processes.distributed import World
from kennel.contract.errors import ConfigError, DataError
from kennel.contract.files import write_json
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths, Hosts
from tests.classifier.test_resume import RUN
from tests.classifier.test_train import QUICK, READER, Train, failure, train, weights  # noqa: F401 - train is a fixture
from tests.conftest import make_photos

KENNEL = (sys.executable, "-u", "-m", "kennel.classifier")
TORCHRUN = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", "-m", "kennel.classifier")
TWO = {"processes": "2"}
# Nothing here is random or depends on who else is in a batch: the frozen part has fixed batch statistics.
HEAD = {"train_layers": "head", "feature_views": "0", "batch_size": "5", "optimizer": "sgd", "lr": "0.1", "epochs": "2"}
ALONE_ON_THIS_HOST = Hosts("localhost", ("localhost",))


def start(job: Path, changes: dict[str, str], command: Sequence[str] = KENNEL) -> "subprocess.Popen[str]":
    """A job in processes of its own."""
    write_json(ContainerPaths(job).hyperparameters_file, QUICK | changes)
    process = subprocess.Popen(
        [*command, "train", "--base-dir", str(job)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _STARTED.append(process)
    return process


_STARTED: "list[subprocess.Popen[str]]" = []


def end(process: "subprocess.Popen[str]") -> None:
    """A job that hangs, with all its processes."""
    if process.poll() is None:
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        process.wait()


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """Even when a test fails or runs into its time limit."""
    yield
    while _STARTED:
        end(_STARTED.pop())


def finish(process: "subprocess.Popen[str]", timeout_s: float = 240) -> tuple[int, str]:
    """Exit status and all output; nothing is left running when it does not come to an end."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        end(process)
        output, _ = process.communicate()
        pytest.fail(f"still running after {timeout_s} s: {output}")
    return process.returncode, output


def go(job: Path, changes: dict[str, str], command: Sequence[str] = KENNEL) -> str:
    """The output of a job that succeeds."""
    status, output = finish(start(job, changes, command))
    assert status == 0, output
    return output


def wait_for(process: "subprocess.Popen[str]", beginning: str) -> str:
    """Read a job's output up to the line that begins so."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith(beginning):
            return seen
    pytest.fail(f"'{beginning}' was never printed: {seen}")


@dataclass(frozen=True)
class Left:
    """What a job found out."""

    rows: list[dict[str, float]]  # one an epoch
    predictions: list[dict[str, object]]
    summary: dict[str, object]
    weights: dict[str, torch.Tensor]


def left_by(job: Path) -> Left:
    data = job / "output/data"
    rows, predictions = (
        [json.loads(line) for line in (data / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "test_predictions.jsonl")
    )
    summary = json.loads((data / "test_summary.json").read_text())
    return Left(rows, predictions, summary, load_artifact(job / "model")[0].state_dict())


def require_equal(one: Left, other: Left) -> None:
    """The same numbers, but for the order in which floats were added."""
    assert len(one.rows) == len(other.rows)
    for mine, theirs in zip(one.rows, other.rows, strict=True):
        names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
        assert [mine[name] for name in names] == pytest.approx([theirs[name] for name in names], rel=1e-5, abs=1e-6)
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-4, atol=1e-6)
    for mine, theirs in ((flat(one.predictions), flat(other.predictions)), (flat(one.summary), flat(other.summary))):
        assert mine.keys() == theirs.keys()
        different = [name for name, leaf in mine.items() if not is_close(leaf, theirs[name])]
        assert not different, [(name, mine[name], theirs[name]) for name in different]


def is_close(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
    return one == other


def flat(value: object, name: str = "") -> dict[str, object]:
    """The leaves of a JSON value by their path in it."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, part in parts for path, leaf in flat(part, f"{name}/{key}").items()}
    return {name: value}


@pytest.fixture
def uneven(job: Path) -> Path:
    """Steps of 5, 5, 5, 5 and 4 images for two processes; 11 validation images make batches of 5, 5 and 1."""
    more = make_photos(job.parent / "more", images=3, seed=9)
    shutil.copytree(more / "red", job / "input/data/validation/red/more")
    return job


def test_two_processes_learn_what_one_learns(train: Train, uneven: Path) -> None:  # noqa: F811
    status, output = train(uneven, **HEAD)
    assert status == 0, output
    alone = left_by(uneven)
    shutil.rmtree(uneven / "model")
    output = go(uneven, HEAD | TWO)
    assert "Processes: 2, on each of: localhost" in output
    assert output.count("epoch=1/2 ") == 1  # one line for all processes
    require_equal(alone, left_by(uneven))
    assert flat(alone.rows) != flat(left_by(uneven).rows)  # images_per_second: these are the numbers of another run


@pytest.mark.slow
def test_gradients_of_a_whole_network_are_averaged_under_plain_torchrun(uneven: Path) -> None:
    """ViT: the only small enough network of torchvision with neither batch statistics nor dropout."""
    whole = {
        "arch": "vit_b_32",
        "crop_px": "224",
        "resize_px": "224",
        "batch_size": "5",
        "optimizer": "sgd",
        "lr": "0.003",
    }
    go(uneven, whole)
    alone = left_by(uneven)
    shutil.rmtree(uneven / "model")
    output = go(uneven, whole, TORCHRUN)
    assert output.count("epoch=1/1 ") == 1
    require_equal(alone, left_by(uneven))


@pytest.mark.slow
def test_two_processes_accumulate_and_clip_as_one_does(train: Train, uneven: Path) -> None:  # noqa: F811
    recipe = HEAD | {"accumulate_steps": "2", "clip_norm": "0.5", "momentum": "0.9"}
    status, output = train(uneven, **recipe)
    assert status == 0, output
    alone = left_by(uneven)
    shutil.rmtree(uneven / "model")
    go(uneven, recipe | TWO)
    require_equal(alone, left_by(uneven))


@pytest.mark.slow
def test_class_weights_weigh_the_images_of_a_step_across_processes(train: Train, uneven: Path) -> None:  # noqa: F811
    for number in range(3, 11):  # 12 images of one class and 4 of the other; steps of 6, 6 and 4
        (uneven / f"input/data/train/red/{number:03}.jpg").unlink()
    recipe = HEAD | {"batch_size": "6", "class_weights": "balanced"}
    status, output = train(uneven, **recipe)
    assert status == 0, output
    alone = left_by(uneven)
    shutil.rmtree(uneven / "model")
    go(uneven, recipe | TWO)
    require_equal(alone, left_by(uneven))


# Dropout, batch statistics and a moving average: everything that every process has to get back.
RESUMED = RUN | TWO


def uninterrupted(job: Path) -> bytes:
    go(job, RESUMED | {"checkpoints": "off"})
    expected = weights(job)
    (job / "model/model.safetensors").unlink()
    return expected


def require_ended(processes: Sequence[psutil.Process]) -> None:
    """A loader process looks for its parent every five seconds."""
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert not alive


def family(process: "subprocess.Popen[str]") -> dict[str, psutil.Process]:
    """The processes of a job, by rank."""
    return {one.environ()["RANK"]: one for one in psutil.Process(process.pid).children()}


@pytest.mark.slow
def test_each_process_has_a_dropout_of_its_own_that_comes_back(job: Path) -> None:
    go(job, RESUMED | {"epochs": "1"})
    (path,) = (job / "checkpoints").glob("*-00000006-*.pt")
    state = torch.load(path, weights_only=True)
    assert len(state["rng"]) == 2
    assert not torch.equal(*state["rng"])


@pytest.mark.slow
def test_sigterm_to_the_launcher_stops_all_and_a_resumed_run_ends_the_same(job: Path) -> None:
    expected = uninterrupted(job)
    process = start(job, RESUMED | {"num_workers": "1"})
    wait_for(process, "epoch=1/3")
    everyone = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    status, output = finish(process, timeout_s=60)
    assert status == 0, output
    assert output.count("SIGTERM: stopped in epoch") == 1
    assert len(everyone) > 2  # loaders among them
    require_ended(everyone)
    assert load_artifact(job / "model")[1].metrics["best_epoch"] == 1
    assert "Resumed at epoch" in go(job, RESUMED)
    assert weights(job) == expected


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_process_ends_the_job_at_once_and_a_resumed_run_ends_the_same(job: Path, rank: str) -> None:
    expected = uninterrupted(job)
    process = start(job, RESUMED | {"num_workers": "1"})
    wait_for(process, "epoch=1/3")
    everyone = psutil.Process(process.pid).children(recursive=True)
    family(process)[rank].kill()
    killed = time.monotonic()
    status, output = finish(process, timeout_s=60)
    assert time.monotonic() - killed < 45
    assert status == 1
    assert f"Processes that failed: {rank} (exit status -9)" in output
    assert f"Process {rank} was ended by SIGKILL. If nobody sent that, memory ran out" in failure(job)
    assert len(everyone) > 2
    require_ended(everyone)
    assert not (job / "model/model.safetensors").exists()
    assert "Resumed at epoch" in go(job, RESUMED)
    assert weights(job) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "changes", "sentence"),
    [
        ("train", {}, "No channel 'train' in"),
        (None, {"batch_size": "3"}, "batch_size is 3, the images of one step of all 2 processes together"),
        (None, {"pretrained": "channel"}, "no channel named 'pretrained'"),
        (None, {"epochs": "none"}, "'epochs' has value 'none'"),
    ],
    ids=["channel", "batch", "pretrained", "hyperparameter"],
)
def test_a_problem_is_told_once(job: Path, missing: str | None, changes: dict[str, str], sentence: str) -> None:
    if missing:
        shutil.rmtree(job / "input/data" / missing)
    status, output = finish(start(job, TWO | changes))
    assert status == 1
    assert output.count("error: ") == 1, output
    assert sentence in failure(job)
    assert f"error: {failure(job)}" in output
    assert "Traceback" not in output


NAMES = "import json\nprint(json.dumps({'names': sorted(trial.tensor_names()), 'workers': trial.workers()}))"


@pytest.mark.slow
def test_one_process_writes_the_debuggers_tensors_with_the_names_of_one_process(job: Path) -> None:
    tensors = job / "output/data/tensors"
    found = []
    for processes in ("1", "2"):
        go(job, {"debugger": "auto", "processes": processes})
        command = [sys.executable, "-c", READER + NAMES, str(tensors)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.splitlines()[-1])  # smdebug logs to stdout as well
    assert found[0] == found[1]
    assert json.loads(found[1])["workers"] == ["worker_0"]


def test_a_process_that_no_launcher_started_is_alone() -> None:
    world = World.from_environ({})
    assert (world.rank, world.size, world.hosts) == (0, 1, 1)
    assert world.is_first
    assert world.leads_host
    assert world.sums(1, 2.5) == [1, 2.5]
    assert world.gather("mine") == world.gather_on_host("mine") == ["mine"]
    assert world.first_does(lambda: 7) == world.each_host_does(lambda: 7) == 7
    layer = torch.nn.Linear(1, 1)
    assert world.wrap(layer, torch.device("cpu")) is layer


def test_a_problem_of_a_process_alone_stays_what_it_was() -> None:
    def fail() -> None:
        raise DataError("no images")

    with pytest.raises(DataError, match="no images"):
        World().first_does(fail)


def test_a_process_is_told_its_place_by_torchruns_variables() -> None:
    environ = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    world = World.from_environ(environ)
    assert (world.rank, world.size, world.local_rank, world.local_size, world.hosts) == (3, 4, 1, 2, 2)
    assert not world.is_first
    assert not world.leads_host
    assert launch.is_started(environ)
    assert not launch.is_started({})


@pytest.mark.parametrize(("processes", "gpus", "planned"), [(0, 0, 1), (0, 4, 4), (2, 4, 2), (3, 0, 3)])
def test_a_host_gets_a_process_for_each_gpu_unless_told_otherwise(processes: int, gpus: int, planned: int) -> None:
    plan = launch.plan(TrainConfig(processes=processes), ALONE_ON_THIS_HOST, gpus=gpus)
    assert (plan.processes, plan.size) == (planned, planned)


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(ConfigError, match="processes is 3, but each needs a GPU of its own and there are 2"):
        launch.plan(TrainConfig(processes=3), ALONE_ON_THIS_HOST, gpus=2)


def test_every_host_finds_its_place_among_the_sorted_names(tmp_path: Path) -> None:
    paths = ContainerPaths(tmp_path)
    assert paths.read_hosts() == ALONE_ON_THIS_HOST  # on a laptop there is no such file
    write_hosts(tmp_path, "algo-2", ["algo-2", "algo-1"])
    hosts = paths.read_hosts()
    assert (hosts.rank, hosts.names, hosts.network_interface) == (1, ("algo-1", "algo-2"), "lo")
    assert launch.plan(TrainConfig(processes=2), hosts, gpus=0).size == 4


def write_hosts(job: Path, current: str, hosts: list[str]) -> None:
    write_json(
        ContainerPaths(job).resource_config_file,
        {"current_host": current, "hosts": hosts, "network_interface_name": "lo"},
    )


def make_host(base: Path, current: str, hosts: list[str], *, images: int, seed: int) -> Path:
    """A base folder with this host's part of `train`; the other channels are the same everywhere."""
    data = base / "input/data"
    make_photos(data / "train", images=images, seed=seed)
    make_photos(data / "validation", images=4, seed=100)
    (data / "classes").mkdir()
    (data / "classes/classes.txt").write_text("blue\nred\n")
    write_json(ContainerPaths(base).input_data_config_file, {"train": {"S3DistributionType": "ShardedByS3Key"}})
    write_hosts(base, current, hosts)
    return base


@pytest.fixture
def hosts(tmp_path: Path) -> list[Path]:
    """Two hosts that are both this machine, with 24 and 18 training images; the second has no red one."""
    names = ["127.0.0.1", "localhost"]
    first = make_host(tmp_path / "first", names[0], names, images=12, seed=1)
    second = make_host(tmp_path / "second", names[1], names, images=18, seed=2)
    shutil.rmtree(second / "input/data/train/red")
    return [first, second]


@pytest.mark.slow
def test_two_hosts_with_a_part_of_the_images_each_train_together(hosts: list[Path]) -> None:
    run = {
        "batch_size": "8",
        "class_weights": "balanced",
        "epochs": "2",
        "checkpoints": "on",
        "checkpoint_minutes": "0",
    }
    (status, first), (other_status, second) = map(finish, [start(host, run) for host in hosts])
    assert (status, other_status) == (0, 0), first + second
    assert "the hosts have 24, 18 images; an epoch takes 16 of each" in first
    assert first.count("epoch=2/2 ") == 1
    assert "epoch=" not in second
    saved = sorted((hosts[0] / "checkpoints").iterdir())
    assert saved[-1].name.startswith("checkpoint-00000008-")  # two epochs of four steps
    assert torch.load(saved[-2], weights_only=True)["sums"]["images"] == 24  # of three steps, from both hosts
    _, meta = load_artifact(hosts[0] / "model")
    assert meta.classes == ("blue", "red")
    assert meta.data["train_images"] == 42
    parts = [scan(host / "input/data/train", classes=meta.classes).fingerprint() for host in hosts]
    assert meta.data["fingerprint"] == hashlib.sha256("".join(parts).encode()).hexdigest()
    assert {entry.name for entry in hosts[1].iterdir()} == {"input"}  # no artifact, no reports, no checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_host_that_still_waits_for_the_other_ends_on_sigterm(hosts: list[Path], rank: int) -> None:
    process = start(hosts[rank], {})
    wait_for(process, "Processes: 1")
    time.sleep(2)  # from here on it waits up to 15 minutes, the second host in C++, where no handler runs
    process.send_signal(signal.SIGTERM)
    status, output = finish(process, timeout_s=10)
    assert status == 128 + signal.SIGTERM
    assert "SIGTERM before the processes were started" in output


@pytest.mark.slow
def test_a_problem_of_one_host_ends_both_and_is_told_by_that_host(hosts: list[Path]) -> None:
    (hosts[1] / "input/data/train/blue").rename(hosts[1] / "input/data/train/bleu")
    (status, first), (other_status, second) = map(finish, [start(host, {}) for host in hosts])
    assert (status, other_status) == (1, 1), first + second
    assert (first + second).count("error: ") == 1, first + second
    assert "bleu" in failure(hosts[1])
    assert not (hosts[0] / "output/failure").exists()


@pytest.mark.slow
def test_hosts_with_different_images_in_a_whole_channel_are_refused(hosts: list[Path]) -> None:
    for host in hosts:
        write_json(ContainerPaths(host).input_data_config_file, {})
    (status, first), (other_status, second) = map(finish, [start(host, {}) for host in hosts])
    assert (status, other_status) == (1, 1), first + second
    assert "The hosts have different images in channel 'train'" in failure(hosts[0])
    assert (first + second).count("error: ") == 1, first + second


def test_hosts_meet_on_the_port_that_the_environment_names() -> None:
    assert launch.meeting_port({}) == 29_500
    assert launch.meeting_port({"MASTER_PORT": "20001"}) == 20_001
    for wrong in ("http", "0", "65536", "-1"):
        with pytest.raises(ConfigError, match=f"MASTER_PORT is '{wrong}'"):
            launch.meeting_port({"MASTER_PORT": wrong})
