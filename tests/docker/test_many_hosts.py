"""Two containers as two hosts of one training job, as SageMaker starts them: `train`, a folder and a name each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import make_photos
from tests.docker.test_init import stop
from tests.images import docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]  # the first test builds the images

HOSTS = ["algo-1", "algo-2"]
CHANNELS = {"train": 12, "validation": 4, "test": 4}  # images of each of two classes
# The frozen part has fixed batch statistics and nothing is random, so two hosts compute what one does.
SAME = {
    "arch": "resnet18", "pretrained": "none", "train_layers": "head", "feature_views": "0", "crop_px": "32",
    "resize_px": "32", "batch_size": "5", "epochs": "2", "optimizer": "sgd", "lr": "0.1", "warmup_epochs": "0",
    "num_workers": "1", "debugger": "off", "profiler": "off", "precision": "fp32", "channels_last": "off",
}  # fmt: skip


@dataclass(frozen=True)
class Host:
    """A container and its /opt/ml."""

    container: str
    base: Path

    @property
    def log(self) -> str:
        done = docker("logs", self.container)
        return done.stdout + done.stderr

    def metrics(self) -> list[dict[str, float]]:
        lines = (self.base / "output/data/metrics.jsonl").read_text().splitlines()
        return [
            {name: value for name, value in json.loads(line).items() if name != "images_per_second"} for line in lines
        ]

    def predictions(self) -> list[list[float]]:
        lines = (self.base / "output/data/test_predictions.jsonl").read_text().splitlines()
        return [json.loads(line)["probabilities"] for line in lines]


@pytest.fixture
def network(docker_daemon: None, tmp_path: Path) -> Iterator[str]:  # noqa: ARG001
    """A network of containers that reaches nothing else, where each host's name resolves."""
    name = f"kennel-{tmp_path.name}"
    docker("network", "create", "--internal", name)
    yield name
    docker("network", "rm", name)


Start = Callable[..., list[Host]]


@pytest.fixture
def start(train_image: str, network: str, tmp_path: Path) -> Iterator[Start]:
    """Start the containers of a job and give them back at once."""
    started: list[Host] = []

    def run(hosts: list[str], **changes: str) -> list[Host]:
        job = f"{tmp_path.name}-{len(started)}"
        mine = [Host(f"{job}-{name}", make_base(tmp_path / job / name, name, hosts, SAME | changes)) for name in hosts]
        started.extend(mine)
        for name, host in zip(hosts, mine, strict=True):
            docker(
                "run", "--detach", f"--name={host.container}", f"--hostname={name}", f"--network={network}",
                f"--network-alias={name}", "--shm-size=1g", *mounts(host.base), train_image, "train",
            )  # fmt: skip
        return mine

    yield run
    for host in started:
        # What the container wrote belongs to root; pytest has to be able to remove it.
        docker("rm", "--force", "--volumes", host.container, check=False)
        give_back(train_image, host.base)


def mounts(base: Path) -> list[str]:
    """One for each folder that SageMaker mounts; /opt/ml/code is the image's own."""
    return [f"--volume={base / name}:/opt/ml/{name}" for name in ("input", "model", "output", "checkpoints")]


def give_back(image: str, folder: Path) -> None:
    command = f"chmod -R a+rwX {folder.name}"
    mount = f"--volume={folder.parent}:/back"
    docker("run", "--rm", "--network=none", mount, "--workdir=/back", "--entrypoint=bash", image, "-c", command)


def make_base(base: Path, current: str, hosts: list[str], hyperparameters: dict[str, str]) -> Path:
    """What SageMaker puts below /opt/ml before the container starts; all hosts get the same images."""
    for seed, (channel, images) in enumerate(CHANNELS.items()):
        make_photos(base / "input/data" / channel, images=images, seed=seed)
    (base / "input/config").mkdir()
    for name in ("model", "output", "checkpoints"):
        (base / name).mkdir()
    channels = {name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"} for name in CHANNELS}
    files = {
        "hyperparameters": hyperparameters,
        "inputdataconfig": channels,
        "resourceconfig": {
            "current_host": current,
            "hosts": hosts,
            "network_interface_name": "eth0",
            "current_group_name": "homogeneousCluster",
            "instance_groups": [
                {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": hosts}
            ],
        },
    }
    for name, content in files.items():
        (base / f"input/config/{name}.json").write_text(json.dumps(content))
    return base


def wait(hosts: list[Host]) -> list[int]:
    """The exit status of each container, after both have ended."""
    names = [host.container for host in hosts]
    return [int(line) for line in docker("wait", *names, timeout=300).stdout.split()]


def test_two_containers_train_together_to_the_numbers_of_one(start: Start) -> None:
    first, second = start(HOSTS)
    assert wait([first, second]) == [0, 0], first.log + second.log
    assert "Processes: 1, on each of: algo-1, algo-2" in first.log
    assert first.log.count("epoch=2/2 ") == 1
    assert "epoch=" not in second.log
    assert {entry.name for entry in (first.base / "model").iterdir()} == {
        "model.safetensors",
        "meta.json",
        "probes.safetensors",
    }
    assert not list((second.base / "model").iterdir())
    assert not (second.base / "output/failure").exists()
    (alone,) = start(["algo-1"])
    assert wait([alone]) == [0], alone.log
    assert "Processes:" not in alone.log
    assert len(alone.metrics()) == 2
    for mine, theirs in zip(first.metrics(), alone.metrics(), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    for own, other in zip(first.predictions(), alone.predictions(), strict=True):
        assert own == pytest.approx(other, rel=1e-4, abs=1e-6)


def wait_for_first_epoch(hosts: list[Host]) -> None:
    for _ in range(600):
        if "epoch=1/" in hosts[0].log:
            return
        states = docker("inspect", "--format={{.State.Status}}", *[host.container for host in hosts]).stdout.split()
        assert states == ["running"] * len(hosts), hosts[0].log + hosts[1].log
        time.sleep(0.3)
    pytest.fail(f"no epoch in 180 s: {hosts[0].log + hosts[1].log}")


def stopped_after(log: str) -> int:
    """Steps of all epochs that a stopped job says it has done."""
    (found,) = re.findall(r"SIGTERM: stopped in epoch (\d+) after (\d+) of (\d+) steps", log)
    epoch, done, steps = map(int, found)
    return (epoch - 1) * steps + done


@pytest.mark.parametrize("stopped", [0, 1])
def test_stopping_one_container_ends_both_with_a_checkpoint(start: Start, stopped: int) -> None:
    hosts = start(HOSTS, epochs="10000")
    wait_for_first_epoch(hosts)
    begin = time.monotonic()
    assert stop(hosts[stopped].container, grace_s=120) < 120
    assert wait(hosts) == [0, 0], hosts[0].log + hosts[1].log
    assert time.monotonic() - begin < 120
    step = stopped_after(hosts[0].log)
    assert len(list((hosts[0].base / "checkpoints").glob(f"checkpoint-{step:08}-*.pt"))) == 1
    assert not list((hosts[1].base / "checkpoints").iterdir())
    assert (hosts[0].base / "model/model.safetensors").exists()
