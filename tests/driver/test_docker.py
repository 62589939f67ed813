"""The command with containers: what it starts, follows, stops and takes away again."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kennel.driver.errors import DriverError
from kennel.driver.session import connection
from kennel.driver.session.home import Home
from tests.driver.conftest import Kennel
from tests.images import docker

pytestmark = pytest.mark.docker
IMAGE = "kennel-driver-tiny:test"
SLOW = ("epochs=900", "checkpoint_minutes=0.1")


@pytest.fixture(scope="module")
def image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("image")
    shutil.copy(Path(__file__).with_name("trainer.py"), folder)
    lines = [f"FROM {base_image}", "COPY trainer.py /trainer.py", "ENV SAGEMAKER_BASE_DIR=/opt/ml"]
    lines += ['ENTRYPOINT ["/usr/bin/python3.11", "/trainer.py"]']
    (folder / "Dockerfile").write_text("\n".join(lines))
    docker("build", "--quiet", "--tag", IMAGE, str(folder))
    return IMAGE


@pytest.fixture
def local(kennel: Kennel, image: str) -> Iterator[Kennel]:
    kennel.write_project(f'runner = "docker"\n[images]\ntrain = "{image}"\n')
    yield kennel
    kennel("clean")
    with contextlib.suppress(DriverError):
        connection.stop(Home(kennel.home))


def containers(local: Kennel) -> list[str]:
    return docker("ps", "--all", "--quiet", f"--filter=label=kennel.home={local.home}").stdout.split()


def test_a_job_is_followed_to_its_metrics_and_its_container_is_gone(local: Kennel, dataset: Path) -> None:
    result = local("train", dataset, "epochs=3", "checkpoint_minutes=0.05", "--name", "job1", "--json").json
    assert result["status"] == "Completed"
    assert result["metrics"]["validation_accuracy"] == 1.0
    artifact = Path(urlsplit(result["artifact"]).path)
    assert artifact.stat().st_uid == os.getuid()
    with tarfile.open(artifact) as tar:
        assert "meta.json" in [name.removeprefix("./") for name in tar.getnames()]
    assert local("logs", "job1").out.startswith("channels test train validation\nepoch=1/3 ")
    assert local("status", "--json").json["emulator"]["runner"] == "docker"
    assert containers(local) == []


def test_ctrl_c_leaves_the_container_and_stop_ends_it(local: Kennel, dataset: Path) -> None:
    rest = local.interrupted("train", dataset, *SLOW, "--name", "long", "--logs", after="epoch=2/900")
    assert "Job long goes on. kennel logs -f long follows it" in rest
    assert len(containers(local)) == 1
    assert local("down").code == 0
    assert len(containers(local)) == 1  # the next local SageMaker finds it again
    assert local("stop", "long").code == 0
    assert "Job long is Stopped" in local("logs", "-f", "long").err
    assert containers(local) == []


def test_clean_ends_a_running_container(local: Kennel, dataset: Path) -> None:
    assert local("train", dataset, *SLOW, "--name", "long", "--no-wait").code == 0
    assert local("clean").out == "deleted  training-job  long\n"
    assert containers(local) == []


def test_an_image_that_is_not_there_is_a_sentence(local: Kennel, dataset: Path) -> None:
    done = local("train", dataset, "--image", "kennel-no-such-image:1")
    assert done.code == 1
    assert "kennel-no-such-image:1" in done.err
    assert "Traceback" not in done.err
