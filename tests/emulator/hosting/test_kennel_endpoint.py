"""The real server behind an endpoint: an artifact as the trainer leaves it, and a photo."""

from __future__ import annotations

import json
import statistics
import tarfile
import time
from pathlib import Path

import httpx

from tests.emulator.emulator_harness import running
from tests.emulator.hosting.hosting_harness import ROLE, Hosted, make_home
from tests.serving.serving_harness import CLASSES, encoded, network, save, scene

SERVE = "000000000000.dkr.ecr.eu-central-1.amazonaws.com/kennel-serve:1"


def packed_artifact(folder: Path, name: str = "model.tar.gz") -> str:
    artifact = save(folder / "artifact", network())
    archive = folder / name
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in artifact.iterdir():
            tar.add(path, path.name)
    return archive.as_uri()


def test_a_photo_is_classified_by_kennels_own_server(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    container = {
        "Image": SERVE,
        "ModelDataUrl": packed_artifact(tmp_path),
        "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"},
    }
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        hosted.sagemaker.create_model(ModelName="cat", PrimaryContainer=container, ExecutionRoleArn=ROLE)
        hosted.config("cat", "cat")
        found = hosted.create("cat")
        assert found["EndpointStatus"] == "InService", found.get("FailureReason")
        answer = hosted.invoke("cat", Body=encoded(scene(1), "JPEG"), ContentType="image/jpeg")
        assert any(name.partition(".")[2] in answer["Body"].read().decode() for name in CLASSES)
        hosted.delete_all()


def test_kennels_own_server_loads_its_models_by_name(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    url = packed_artifact(tmp_path, "models/first.tar.gz")
    container = {
        "Image": SERVE,
        "Mode": "MultiModel",
        "ModelDataUrl": url.removesuffix("first.tar.gz"),
        "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "KENNEL_MAX_MODELS": "1"},
    }
    photo = {"Body": encoded(scene(1), "JPEG"), "ContentType": "image/jpeg"}
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        hosted.sagemaker.create_model(ModelName="pets", PrimaryContainer=container, ExecutionRoleArn=ROLE)
        hosted.config("pets", "pets")
        found = hosted.create("pets")
        assert found["EndpointStatus"] == "InService", found.get("FailureReason")
        first = hosted.say("pets", TargetModel="first.tar.gz", **photo)["predictions"]
        (tmp_path / "models/second.tar.gz").write_bytes((tmp_path / "models/first.tar.gz").read_bytes())
        assert hosted.say("pets", TargetModel="second.tar.gz", **photo)["predictions"] == first
        assert hosted.say("pets", TargetModel="first.tar.gz", **photo)["predictions"] == first
        hosted.delete_all()


def test_the_way_through_the_emulator_costs_a_few_milliseconds(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        hosted.deploy("cat")
        runs = json.loads(next((home / "runs").glob("*/launch.json")).read_text())
        with httpx.Client() as client:
            direct = _median_ms(
                lambda: client.post(f"http://127.0.0.1:{runs['port']}/invocations", content=b"photo").read()
            )
        log_before = len(emulator.log())
        _median_ms(lambda: json.loads(hosted.invoke("cat")["Body"].read()))
        inside = statistics.median(line["ms"] for line in emulator.log()[log_before:] if line["event"] == "request")
        assert inside - direct < 10, "on a busy machine; a quiet one has less than 3 ms"
        hosted.delete_all()


def _median_ms(action: object, times: int = 100) -> float:
    assert callable(action)
    found = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        found.append((time.perf_counter() - start) * 1000)
    return statistics.median(found)
