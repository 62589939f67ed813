"""This project's own server as the container of a transform job, over photos."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.emulator_harness import running
from tests.emulator.transform.transform_harness import ROLE, job_request, log, run, said
from tests.serving.serving_harness import b64, encoded, network, same_ranking, save, scene

pytestmark = pytest.mark.slow  # two servers with torch


def test_photos_and_json_lines_of_the_same_photos_get_the_same_predictions(tmp_path: Path):
    artifact = save(tmp_path / "artifact", network())
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        for path in sorted(artifact.iterdir()):
            tar.add(path, path.name)
    photos = {f"{seed}.png": encoded(scene(seed), "PNG") for seed in range(3)}
    for name, data in photos.items():
        place = tmp_path / "photos/input/deep" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    lines = [json.dumps({"image": b64(photos[f"{number % 3}.png"])}) for number in range(8)]
    (tmp_path / "lines/input").mkdir(parents=True)
    (tmp_path / "lines/input/photos.jsonl").write_text("\n".join([*lines, '{"image": "eA=="}']) + "\n")

    with running(tmp_path / "home") as emulator:
        container = {"Image": "kennel-serve:1", "ModelDataUrl": (tmp_path / "model.tar.gz").as_uri()}
        emulator.client("sagemaker").create_model(ModelName="photos", PrimaryContainer=container, ExecutionRoleArn=ROLE)
        whole = {"data": {"ContentType": "application/x-image"}, "output": {"Accept": "application/json"}}
        found = run(emulator, job_request("photos", tmp_path / "photos", "photos", **whole))
        assert found["TransformJobStatus"] == "Completed", (found, said(emulator, "photos", "x"))
        split = {
            "data": {"ContentType": "application/jsonlines", "SplitType": "Line"},
            "output": {"Accept": "application/jsonlines", "AssembleWith": "Line"},
            "MaxPayloadInMB": 1,
        }
        found = run(emulator, job_request("lines", tmp_path / "lines", "photos", **split))
        assert found["TransformJobStatus"] == "Completed", found
        [settled] = log(emulator, "lines")
        assert "MaxPayloadInMB=1, BatchStrategy=MULTI_RECORD" in settled

    single: list[Any] = [
        json.loads((tmp_path / f"photos/output/deep/{name}.out").read_text())["predictions"] for name in photos
    ]
    answers = [json.loads(line) for line in (tmp_path / "lines/output/photos.jsonl.out").read_text().splitlines()]
    assert len(answers) == 9
    assert answers.pop()["code"] == "invalid_image"
    for number, answer in enumerate(answers):
        assert same_ranking(answer["predictions"], single[number % 3], 1e-4)
