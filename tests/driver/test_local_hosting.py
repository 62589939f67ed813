"""Endpoints through the command and the Python API, on the real local SageMaker with Kennel's own server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kennel import driver
from kennel.driver.errors import DriverError
from kennel.driver.session import connection
from kennel.driver.session.home import Home
from kennel.driver.session.session import Session
from tests.conftest import make_photos
from tests.driver.conftest import Kennel
from tests.emulator.emulator_harness import wait_for
from tests.serving.serving_harness import CLASSES, encoded, network, save, scene

TRAINER = """import os, shutil
shutil.copytree({artifact!r}, os.environ["SAGEMAKER_BASE_DIR"] + "/model", dirs_exist_ok=True)
print("epoch=1/5 train_loss=0.25 validation_accuracy=0.9", flush=True)
"""
LABELS = {name.partition(".")[2] for name in CLASSES}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kennel]:
    """A folder with an artifact and photos; the server that the first command starts is ended."""
    folder = tmp_path_factory.mktemp("hosting")
    kennel = Kennel(folder)
    kennel.home.mkdir()
    kennel.write_project('runner = "process"\n')
    save(folder / "artifact", network())
    for number in (1, 2):
        (folder / f"{number}.jpg").write_bytes(encoded(scene(number), "JPEG"))
    (folder / "torn.jpg").write_bytes(b"no photo")
    yield kennel
    with contextlib.suppress(DriverError):
        kennel("clean")
        connection.stop(Home(kennel.home))


@pytest.fixture
def session(local: Kennel) -> Session:
    made = driver.session(local.folder / "kennel.toml", quiet=True)
    made.home = Home(local.home)
    return made


def test_an_asynchronous_endpoint_is_deployed_asked_and_deleted(local: Kennel) -> None:
    one_worker = ("--env", "SAGEMAKER_MODEL_SERVER_WORKERS=1")
    deployed = local("deploy", local.folder / "artifact", "--name", "later", "--async", *one_worker)
    assert deployed.code == 0, deployed.err
    assert "next      kennel predict later PHOTO --async" in deployed.out
    photos = [local.folder / name for name in ("1.jpg", "torn.jpg", "2.jpg")]
    asked = local("predict", "later", "--async", "--top-k", "2", *photos)
    assert asked.code == 1, "one photo was refused"
    assert "(status 400)" in asked.out + asked.err or "(status 415)" in asked.out + asked.err
    answers = local("predict", "later", "--async", "--top-k", "2", "--json", *photos[::2]).json
    assert [Path(answer["path"]).name for answer in answers] == ["1.jpg", "2.jpg"]
    assert all(len(answer["predictions"]) == 2 for answer in answers)
    assert {one["label"] for answer in answers for one in answer["predictions"]} <= LABELS
    assert list((local.home / "async-input").iterdir()) == [], "photos are taken away again"
    refused = local("predict", "later", photos[0])
    assert refused.code == 1
    assert "takes InvokeEndpointAsync only" in refused.err
    cleaned = local("clean")
    assert "deleted  endpoint  later" in cleaned.out, cleaned.out + cleaned.err


def test_a_model_is_run_over_a_folder_and_stopped(local: Kennel) -> None:
    photos = local.folder / "some"
    photos.mkdir()
    for number in range(1, 3):
        (photos / f"{number}.jpg").write_bytes((local.folder / f"{number}.jpg").read_bytes())
    done = local("transform", local.folder / "artifact", photos, "--output", local.folder / "said", "--name", "all")
    assert done.code == 0, done.err
    answers = [json.loads((local.folder / "said" / f"{number}.jpg.out").read_text()) for number in (1, 2)]
    assert {answer["predictions"][0]["label"] for answer in answers} <= LABELS
    assert local("stop", "all", "--transform").err.startswith("kennel: Transform job all is Completed already.")
    begun = local("transform", local.folder / "artifact", photos, "--name", "half", "--no-wait")
    assert begun.code == 0, begun.err
    assert local("stop", "half", "--transform").out == "half is asked to stop\n"
    assert "deleted  transform-job  half" in local("clean").out


def is_gone(endpoint: driver.Endpoint) -> bool:
    try:
        assert endpoint.status == "Deleting"
    except DriverError as error:
        return "There is no endpoint" in str(error)
    return False


def test_a_notebook_deploys_asks_and_deletes(session: Session, local: Kennel) -> None:
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
    with driver.deploy(local.folder / "artifact", session=session, name="dogs", environment=environment) as endpoint:
        assert endpoint.status == "InService"
        assert endpoint.wait().name == "dogs"
        [answer] = endpoint.predict(local.folder / "1.jpg", top_k=3)
        assert answer.error == ""
        assert len(answer.predictions) == 3
        first, torn = endpoint.predict([local.folder / "2.jpg", local.folder / "torn.jpg"])
        assert first.predictions[0].label in LABELS
        assert "status 4" in torn.error
        assert driver.endpoint("dogs", session).status == "InService"
    wait_for(lambda: is_gone(endpoint))
    assert [entry.kind for entry in session.record.alive() if entry.kind.startswith("endpoint")] == []
    endpoint.delete()  # once more is nothing


def test_the_notebook_of_the_documentation_runs(local: Kennel) -> None:
    """The block is run as it stands; its training takes the artifact that lies there, at once."""
    page = (Path(__file__).parents[2] / "docs/driver.md").read_text(encoding="utf-8")
    block = page.partition("## In a notebook")[2].partition("```python\n")[2].partition("```")[0]
    assert "driver.train" in block
    make_photos(local.folder / "photos", images=2)
    (local.folder / "photo.jpg").write_bytes((local.folder / "1.jpg").read_bytes())
    (local.folder / "trainer.py").write_text(TRAINER.format(artifact=str(local.folder / "artifact")))
    program = [sys.executable, str(local.folder / "trainer.py")]
    (local.home / "images.json").write_text(json.dumps({"kennel-train": program}))
    assert local("down").code == 0
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=local.folder, env={**os.environ, "KENNEL_HOME": str(local.home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epoch 1/5  train_loss 0.2500  validation_accuracy 0.9000" in done.stderr
    assert "dogs is in service after" in done.stderr
    assert local("clean", "--dry-run").out == "Nothing to delete.\n"
