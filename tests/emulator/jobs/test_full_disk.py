"""A disk that is full for a while: nothing ends of it but what did not fit, and everybody is told."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from kennel.emulator.state.line_files import LineFile, append
from tests.emulator.emulator_harness import PROGRAM, Emulator, job_request, running, wait_for
from tests.emulator.hosting.hosting_harness import ECHO, Hosted
from tests.emulator.transform import transform_harness as transforms
from tests.emulator.tuning import tuning_harness as tunings
from tests.small_disks import SmallDisk, small_disk

NO_ROOM = "No space left on device"  # a program that has met the full disk itself
FULL = "The disk is full: "
ONCE = Config(retries={"total_max_attempts": 1})
LOUD = """
import sys, time
from pathlib import Path
for number in range(3000):
    print(f"line {number} loss={number}", flush=True)
    while number in (500, 2500) and not Path(sys.argv[1], str(number)).exists():
        time.sleep(0.05)
"""
GREEDY = """
import os
from pathlib import Path
file = Path(os.environ["SAGEMAKER_BASE_DIR"], "model/weights").open("wb", buffering=0)
print("begins", flush=True)
while True:
    file.write(bytes(1 << 16)) or 1 / 0
"""


@contextlib.contextmanager
def full_able(folder: Path, size_bytes: int = 24 << 20) -> Iterator[SmallDisk]:
    """A small disk with a home whose images are those of the other tests."""
    with small_disk(folder / "disk", size_bytes) as disk:
        home = disk.path / "home"
        home.mkdir()
        python = [sys.executable, "-u", "-c"]
        images = {
            "tiny": [*python, PROGRAM],
            "loud": [*python, LOUD, str(folder)],
            "greedy": [*python, GREEDY],
            "kennel-echo": [sys.executable, str(ECHO)],
            "kennel-batch-echo": [sys.executable, str(transforms.ECHO)],
            "bowl": [*python, tunings.PROGRAM],
        }
        (home / "images.json").write_text(json.dumps(images))
        yield disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with full_able(tmp_path) as made:
        yield made


def training(emulator: Emulator, name: str) -> dict[str, Any]:
    found: dict[str, Any] = emulator.client("sagemaker").describe_training_job(TrainingJobName=name)
    return found


def create(emulator: Emulator, name: str, folder: Path, image: str = "tiny:1", **changes: Any) -> None:
    request = job_request(name, folder, **changes)
    request["AlgorithmSpecification"] |= {
        "TrainingImage": image, "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
    }  # fmt: skip
    emulator.client("sagemaker").create_training_job(**request)


def logged(emulator: Emulator, name: str) -> list[str]:
    """The messages of a job's log, over CloudWatch Logs."""
    logs, group = emulator.client("logs"), "/aws/sagemaker/TrainingJobs"
    found = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    messages: list[str] = []
    for stream in found:
        about: dict[str, Any] = {"logGroupName": group, "logStreamName": stream["logStreamName"], "startFromHead": True}
        while (page := logs.get_log_events(**about))["events"]:
            messages += [event["message"] for event in page["events"]]
            about["nextToken"] = page["nextForwardToken"]
    return messages


def has_ended(emulator: Emulator, name: str) -> dict[str, Any] | None:
    found = training(emulator, name)
    return found if found["TrainingJobStatus"] != "InProgress" else None


def faults(emulator: Emulator) -> list[dict[str, Any]]:
    """What the server's own log says of itself that nobody should have to read."""
    return [line for line in emulator.log() if "traceback" in line or line["event"] == "fault"]


def test_everything_that_goes_on_ends_when_there_is_room_again(disk: SmallDisk, tmp_path: Path) -> None:
    """A training, a tuning job, a transform job; endpoints that come, change and go; a request that waits."""
    with running(disk.path / "home") as emulator:
        hosted = Hosted(emulator, tmp_path)
        client = emulator.client("sagemaker", config=ONCE)
        hosted.deploy("stays")
        hosted.deploy("goes")
        output = {"OutputConfig": {"S3OutputPath": (tmp_path / "answers").as_uri()}}
        hosted.deploy("later", AsyncInferenceConfig=output)
        transforms.make_model(emulator, tmp_path / "transform/model")
        transforms.write(tmp_path / "transform", **{f"{n}_txt": "a\nb\n" for n in range(3)})
        create(emulator, "trains", tmp_path, HyperParameters={"sleep_s": "3"})
        tuned = tunings.definition(tmp_path, {"sleep_s": "2"})
        client.create_hyper_parameter_tuning_job(**tunings.request("tunes", tmp_path, 3, TrainingJobDefinition=tuned))
        wait_for(lambda: logged(emulator, "trains"))
        client.create_transform_job(**transforms.job_request("transforms", tmp_path / "transform"))
        hosted.model("new", "woof")
        hosted.config("new", "new")
        asked = {"Body": b"{}", "CustomAttributes": json.dumps({"sleep_s": 1})}
        waits = hosted.runtime.invoke_endpoint_async(EndpointName="later", **asked)
        client.update_endpoint(EndpointName="stays", EndpointConfigName="new")
        client.delete_endpoint(EndpointName="goes")
        disk.fill()
        assert disk.is_full()

        # Whoever asks is answered, in AWS's form, with a sentence.
        with pytest.raises(ClientError, match=rf"\(ServiceUnavailable\).*{FULL}{disk.path}.* has 0\.0 of .* left"):
            for number in range(50):
                client.create_model(ModelName=f"more-{number}", PrimaryContainer={"Image": "tiny:1"})
        with pytest.raises(ClientError, match=FULL):
            for number in range(50):
                create_once = job_request(f"more-{number}", tmp_path)
                client.create_training_job(**create_once)
        assert client.list_training_jobs()["TrainingJobSummaries"]
        assert training(emulator, "trains")["TrainingJobName"] == "trains"
        assert client.describe_endpoint(EndpointName="stays")
        assert hosted.say("stays")
        time.sleep(5)  # what ends now finds no room; there is nothing to wait for
        assert training(emulator, "trains")
        assert not faults(emulator)
        disk.make_room()

        found = wait_for(lambda: has_ended(emulator, "trains"))
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        tuning = tunings.ended(emulator, "tunes")
        assert tuning["HyperParameterTuningJobStatus"] in ("Completed", "Failed")
        transform = transforms.wait(emulator, "transforms")
        assert transform["TransformJobStatus"] == "Completed" or FULL in transform["FailureReason"]
        stays = hosted.settled("stays")
        assert stays["EndpointStatus"] == "InService"
        assert stays["EndpointConfigName"] == "new" or FULL in stays["FailureReason"]
        with pytest.raises(ClientError, match="Could not find endpoint"):
            wait_for(lambda: hosted.describe("goes") and None, 60)
        answer, failure = (Path(waits[key].removeprefix("file://")) for key in ("OutputLocation", "FailureLocation"))
        wait_for(lambda: answer.exists() or failure.exists())
        for name in (one["TrainingJobName"] for one in client.list_training_jobs()["TrainingJobSummaries"]):
            ended = wait_for(lambda name=name: has_ended(emulator, name))
            reason = ended.get("FailureReason", "")
            assert ended["TrainingJobStatus"] == "Completed" or FULL in reason or NO_ROOM in reason, ended
        assert not faults(emulator)
        hosted.delete_all()


def test_a_kill_on_a_full_disk_is_taken_up_when_there_is_room(disk: SmallDisk, tmp_path: Path) -> None:
    with running(disk.path / "home") as emulator:
        create(emulator, "job", tmp_path, HyperParameters={"sleep_s": "1"})
        wait_for(lambda: logged(emulator, "job"))
        disk.fill()
        time.sleep(3)  # it has ended, and this cannot be written
        emulator.stop(signal.SIGKILL)
    disk.make_room()
    with running(disk.path / "home") as emulator:
        found = wait_for(lambda: has_ended(emulator, "job"))
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")


def test_a_server_without_room_to_start_says_so_in_one_sentence(disk: SmallDisk) -> None:
    disk.fill()
    command = [sys.executable, "-m", "kennel.emulator", "serve", "--home", str(disk.path / "other")]
    done = subprocess.run([*command, "--runner", "process"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"kennel.emulator: {FULL}{disk.path}")
    assert done.stderr.count("\n") == 1


def test_lines_and_metrics_of_a_full_disk_come_later_and_whole(disk: SmallDisk, tmp_path: Path) -> None:
    with running(disk.path / "home") as emulator:
        create(emulator, "job", tmp_path, "loud:1")
        wait_for(lambda: len(logged(emulator, "job")) == 501)
        (disk.path / "home/reserve").unlink()  # otherwise the server gives it up, which makes room
        disk.fill()
        (tmp_path / "500").touch()
        time.sleep(2)  # for lines that find no room; there is nothing to wait for
        assert len(logged(emulator, "job")) < 2500
        disk.make_room()
        wait_for(lambda: len(logged(emulator, "job")) == 2501)
        (tmp_path / "2500").touch()
        found = wait_for(lambda: has_ended(emulator, "job"))
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        assert logged(emulator, "job") == [f"line {n} loss={n}" for n in range(3000)]
        [metric] = found["FinalMetricDataList"]
        assert metric["Value"] == 2999
        kept = (disk.path / "home/jobs/job/metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["value"] for line in kept] == list(range(3000))


def test_a_job_that_fills_the_disk_itself_ends_and_gives_the_room_back(disk: SmallDisk, tmp_path: Path) -> None:
    with running(disk.path / "home") as emulator:
        create(emulator, "warm-up", tmp_path)
        wait_for(lambda: has_ended(emulator, "warm-up"))
        free = disk.free_bytes
        create(emulator, "job", tmp_path, "greedy:1")
        found = wait_for(lambda: has_ended(emulator, "job"), 60)
        assert found["TrainingJobStatus"] == "Failed"
        assert "No space left on device" in found["FailureReason"]
        assert logged(emulator, "job")[0] == "begins"
        wait_for(lambda: disk.free_bytes > free - (1 << 20))


def test_a_line_without_room_leaves_nothing_of_itself(disk: SmallDisk) -> None:
    path = disk.path / "lines"
    with LineFile(path) as file:
        file.append(b"first\n")
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            file.append(b"x" * 10_000 + b"\n")
        assert path.read_bytes() == b"first\n"
        disk.make_room()
        file.append(b"second\n")
    assert path.read_bytes() == b"first\nsecond\n"


def test_what_a_killed_writer_left_is_not_glued_to_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'first\n{"half')
    append(path, b"second\n")
    append(path, b"third\n")
    assert path.read_bytes() == b'first\n{"half\nsecond\nthird\n'
