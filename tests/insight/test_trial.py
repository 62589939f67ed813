"""Folders that are not as they should be: what can be read is judged, the rest is named, and nothing waits."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from kennel.insight.errors import InsightError
from kennel.insight.rules import AUTO
from kennel.insight.tensors.sources import S3Copy, opened
from tests.insight.conftest import judge, statuses
from tests.servers import S3_KEYS, bucket_client, moto_server, variables

TENSORS = "output/data/tensors"


@pytest.fixture
def damaged(trainings: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(trainings / "other_seed", tmp_path / "copy")


def events(run: Path) -> list[Path]:
    return sorted((run / TENSORS).glob("events/*/*.tfevents"))


def indices(run: Path) -> list[Path]:
    return sorted((run / TENSORS).glob("index/*/*.json"))


@pytest.mark.parametrize("below", ["", "tensors", "tensors/collections", "tensors/index"])
def test_an_empty_folder_is_answered_at_once(tmp_path: Path, below: str) -> None:
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    result = judge(tmp_path, "VanishingGradient")  # smdebug's own reader would wait for ever
    assert statuses(result) == {"VanishingGradient": "NotEnoughData"}
    assert "no tensors were saved" in result["rules"][0]["detail"]


def test_a_cut_off_event_file_costs_its_tensors_only(damaged: Path) -> None:
    file = events(damaged)[0]
    file.write_bytes(file.read_bytes()[:200])
    result = judge(damaged, "ExplodingTensor")
    assert statuses(result) == {"ExplodingTensor": "NoIssuesFound"}
    assert any("of step 0 cannot be read" in note for note in result["notes"])


def test_an_event_file_that_is_not_there_is_not_waited_for(damaged: Path) -> None:
    events(damaged)[1].unlink()
    began = time.monotonic()
    result = judge(damaged, "ExplodingTensor")
    assert time.monotonic() - began < 150  # smdebug's own reader would try for 200 s
    assert statuses(result) == {"ExplodingTensor": "NoIssuesFound"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"meta": {}}', '{"meta": {"mode": "TRAIN"}, "tensor_payload": [{}]}'])
def test_an_index_that_cannot_be_read_costs_its_step_only(damaged: Path, text: str) -> None:
    indices(damaged)[0].write_text(text)
    result = judge(damaged, "ExplodingTensor")
    assert result["steps"] == len(indices(damaged)) - 1
    assert any("The index of step 0 cannot be read" in note for note in result["notes"])
    assert statuses(result) == {"ExplodingTensor": "NoIssuesFound"}


def test_strange_files_beside_an_index_are_passed_over(damaged: Path) -> None:
    (indices(damaged)[0].parent / "notes.json").write_text("{}")
    assert judge(damaged, "ExplodingTensor")["notes"] == []


def test_collections_that_are_cut_off_are_named(damaged: Path) -> None:
    [file] = (damaged / TENSORS).glob("collections/*/*.json")
    file.write_text(file.read_text()[:50])
    result = judge(damaged, "ExplodingTensor")
    assert statuses(result) == {"ExplodingTensor": "NotEnoughData"}
    assert result["rules"][0]["detail"].endswith("cannot be read; the note says why")  # not: nothing was saved
    assert f"{file} cannot be read" in result["notes"][0]


def test_a_run_that_was_killed_is_judged_without_its_end(damaged: Path) -> None:
    (damaged / TENSORS / "training_job_end.ts").unlink()
    assert statuses(judge(damaged, "ExplodingTensor")) == {"ExplodingTensor": "NoIssuesFound"}


def test_an_archive_is_read_like_its_folder(trainings: Path, tmp_path: Path) -> None:
    archive = tmp_path / "output.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(trainings / "dead_relu" / TENSORS, "tensors")
    whole, packed = judge(trainings / "dead_relu", "DeadRelu"), judge(archive, "DeadRelu")
    assert packed["findings"] == whole["findings"] != []
    archive.write_bytes(archive.read_bytes()[:1000])
    assert "cannot be unpacked" in judge(archive, "DeadRelu")["notes"][0]


def test_a_prefix_of_s3_is_read_like_its_folder(trainings: Path, tmp_path: Path) -> None:
    import boto3

    with moto_server(tmp_path) as url, variables(
        AWS_ENDPOINT_URL_S3=url, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_REGION="us-east-1"  # noqa: S106
    ):  # fmt: skip
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="dogs")
        folder = trainings / "dead_relu" / TENSORS
        for path in filter(Path.is_file, folder.rglob("*")):
            client.upload_file(str(path), "dogs", f"job/debug-output/{path.relative_to(folder)}")
        found = judge("s3://dogs/job/debug-output", "DeadRelu")
        assert found["findings"] == judge(trainings / "dead_relu", "DeadRelu")["findings"] != []
        with pytest.raises(InsightError, match="s3://elsewhere/x cannot be read"), opened("s3://elsewhere/x"):
            pass


def test_what_is_written_while_a_prefix_is_fetched_comes_with_the_next_look(tmp_path: Path) -> None:
    """The training saves faster than a look may fetch: a look that went on with what is new would never end."""
    folder, enough = tmp_path / "copy", threading.Event()
    # Pages of 20 keys, so that a listing that went on between downloads would meet the writer's keys.
    with (
        variables(**S3_KEYS, MOTO_S3_DEFAULT_MAX_KEYS="20"),
        moto_server(tmp_path) as url,
        bucket_client(url, "dogs") as client,
        variables(AWS_ENDPOINT_URL_S3=url),
    ):
        put = functools.partial(client.put_object, Bucket="dogs", Body=b"tensors")
        early = [f"job/{number:05}" for number in range(40)]
        for key in early:
            put(Key=key)

        def go_on_writing() -> None:  # from the first download on, until the look is over or has gone wrong
            for number in range(len(early), 1000):
                while not folder.exists() and not enough.is_set():
                    time.sleep(0.001)
                if enough.is_set():
                    return
                put(Key=f"job/{number:05}")

        copy = S3Copy("s3://dogs/job", folder)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            writing = pool.submit(go_on_writing)
            try:
                copy.refresh()
            finally:
                enough.set()
            writing.result()
        written = [entry["Key"] for page in client.get_paginator("list_objects_v2").paginate(Bucket="dogs")
                   for entry in page["Contents"]]  # fmt: skip
        assert len(written) > len(early)
        assert sorted(f"job/{path.name}" for path in folder.iterdir()) == early
        copy.refresh()
        assert sorted(f"job/{path.name}" for path in folder.iterdir()) == written


def insight(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kennel.insight", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_program_prints_a_table_or_json_and_nothing_else(trainings: Path) -> None:
    text = insight("rules", trainings / "dead_relu", "--rules", "DeadRelu,VanishingGradient:threshold=0")
    lines = text.stdout.splitlines()
    assert lines[0].split() == ["rule", "status", "times", "values"]
    assert lines[1].split() == ["DeadRelu", "IssuesFound", "2", "2"]
    assert "\nDeadRelu\n  TRAIN step 0: 100 % of the 8 nodes of 1_output_0 are dead" in text.stdout
    assert text.stderr == ""
    value = json.loads(insight("rules", trainings / "dead_relu", "--rules", "DeadRelu", "--json").stdout)
    assert (value["schema"], value["ended"], len(value["findings"])) == (1, True, 1)


def test_what_no_rule_could_judge_is_said_once(tmp_path: Path) -> None:
    text = insight("rules", tmp_path).stdout
    assert text.count("NotEnoughData") == len(AUTO)
    assert text.splitlines()[-2:] == [
        "",
        "not enough data: no tensors were saved (debugger=off, or the training ended before its first save)",
    ]
    one = insight("rules", tmp_path, "--rules", "DeadRelu").stdout.splitlines()
    assert one[1].split()[:2] == ["DeadRelu", "NotEnoughData"]
    assert "no tensors were saved" in one[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rules", "/nowhere"], "There is nothing at /nowhere"),
        (["rules", "/tmp", "--rules", "DeadReLU"], "There is no rule 'DeadReLU'. Did you mean DeadRelu?"),  # noqa: S108
        (["rules", "/tmp", "--rules", "DeadRelu:threshold"], "the parameter 'threshold' without a value"),  # noqa: S108
    ],
)
def test_what_cannot_be_done_is_one_line(words: list[str], said: str) -> None:
    done = insight(*words)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
