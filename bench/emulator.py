"""What the local SageMaker costs beside what it runs: one Markdown table.

Each row has a limit that was measured in the same run, in turns: the same image by `docker run`, the same program by
itself, the same request to the container. `--only` chooses rows; those of docker need an engine and the images.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import machine, photos
from bench.local import (
    FIRST_LINE,
    LINE_PROGRAM,
    Connection,
    Local,
    Signed,
    seconds_to_line,
    serving,
    wait_for_status,
)
from bench.process import Others
from bench.rows import Row, show
from kennel.emulator.runners import make_runner
from kennel.emulator.runners.base import ENDPOINT_LABEL
from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import TRAINING_LOGS

_LOG = logging.getLogger(__name__)
_JOBS = 10_000
_PAUSE_S = 8.0  # between a job's end and the next one: the time in which who waits has imported everything
_ROLE = "arn:aws:iam::000000000000:role/kennel"
_LINE_IMAGE = "kennel-bench-line:latest"
_PHOTO = {"Content-Type": "image/jpeg"}
_SMALL = {"arch": "resnet18", "pretrained": "none", "train_layers": "head", "crop_px": "32", "resize_px": "32",
          "batch_size": "4", "epochs": "1", "num_workers": "0", "precision": "fp32", "debugger": "off"}  # fmt: skip
NAMES = ("start-process", "start-docker", "describe", "invoke", "warm-process", "warm-docker")


class Bench:
    """The measurements, in a folder."""

    def __init__(self, folder: Path, rounds: int, requests: int, train_image: str) -> None:
        self._folder, self._rounds, self._requests, self._train_image = folder, rounds, requests, train_image
        self._others = 0.0
        photos.generate(folder / "photos/train", 16, seed=0)
        photos.generate(folder / "photos/validation", 8, seed=1)

    def rows(self, name: str) -> list[Row]:
        """Measure one of NAMES."""
        kind, _, runner = name.partition("-")
        measure: dict[str, Callable[[str], list[Row]]] = {
            "start": self.start, "describe": self.describe, "invoke": self.invoke, "warm": self.warm,
        }  # fmt: skip
        if runner == "docker" and not _docker_answers():
            return [Row(name, "needs docker", "", detail="no docker answers here")]
        return measure[kind](runner or "process")

    @contextlib.contextmanager
    def _local(self, runner: str, jobs: int = 0) -> Iterator[Local]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        others = Others(os.getpid())
        with serving(folder, runner, jobs) as local:
            yield local
            self._others = others.share()
        shutil.rmtree(folder, ignore_errors=True)

    # ---- from `kennel train` to the container's first line -----------------------------------------------------

    def start(self, runner: str) -> list[Row]:
        """Seconds until `kennel train --logs` shows the first line, less those of the same image without us."""
        image = "bench-line" if runner == "process" else _line_image(self._train_image)
        plain = (
            [sys.executable, "-c", LINE_PROGRAM] if runner == "process" else ["docker", "run", "--rm", image, "train"]
        )
        with self._local(runner) as local:
            pairs = []
            for number in range(self._rounds + 1):  # the first one fills the caches
                limit = seconds_to_line(plain, FIRST_LINE, os.environ, local.folder)
                ours = seconds_to_line(_train(image, number, self._folder), FIRST_LINE, local.environ(), local.folder)
                pairs.append((ours, limit))
                _LOG.info("start, %s: %.2f s, by itself %.2f s", runner, ours, limit)
        ours, limit = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
        what = "`docker run` of the image" if runner == "docker" else "the program by itself"
        return [
            Row(
                f"start, {runner}",
                f"from `kennel train --logs` to the container's first line on the screen - {what}",
                "< 2 s",
                tuple(a - b for a, b in pairs[1:]),
                "s",
                f"seconds: {ours:.2f} - {limit:.2f}",
                self._others,
            )
        ]

    # ---- the API with many jobs --------------------------------------------------------------------------------

    def describe(self, runner: str) -> list[Row]:
        """Milliseconds of an answer with 10,000 jobs stored, over those of the health check, which does nothing."""
        with self._local(runner, _JOBS) as local:
            wire, client = local.connection(), local.client("sagemaker")
            calls: dict[str, Callable[[int], float]] = {
                "health check": lambda _: wire.ms(Signed("GET", "/", {}, b"")),
                "DescribeTrainingJob": lambda n: wire.ms(local.operation("DescribeTrainingJob", _stored(n))),
                "ListTrainingJobs": lambda _: wire.ms(local.operation("ListTrainingJobs", {"MaxResults": 100})),
                "ListTrainingJobs, NameContains": lambda n: wire.ms(
                    local.operation("ListTrainingJobs", {"NameContains": f"{n % _JOBS:05}"})
                ),
                "ListTrainingJobs, StatusEquals": lambda _: wire.ms(
                    local.operation("ListTrainingJobs", {"StatusEquals": "Completed", "SortBy": "Name"})
                ),
                "boto3's describe_training_job": lambda n: _ms(lambda: client.describe_training_job(**_stored(n))),
            }
            found = self._in_turns(calls)
        floor = statistics.median(found.pop("health check"))
        detail = f"health check {floor:.2f} ms"
        return [self._answer(name, values, detail) for name, values in found.items()]

    def _answer(self, name: str, values: list[float], detail: str) -> Row:
        return Row("answer", f"{name}, {_JOBS} jobs stored", "< 10 ms", tuple(values), "ms", detail, self._others)

    def _in_turns(self, calls: dict[str, Callable[[int], float]]) -> dict[str, list[float]]:
        """Milliseconds of each call, all of them in turns."""
        found: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(-20, self._requests):
            for name, call in calls.items():
                taken = call(number * 7919)
                if number >= 0:  # before that, caches fill
                    found[name].append(taken)
        return found

    # ---- invocations -------------------------------------------------------------------------------------------

    def invoke(self, runner: str) -> list[Row]:
        """Milliseconds that an invocation takes through the endpoint, less those straight to the container."""
        with self._local(runner) as local:
            _deploy(local)
            port = _endpoint_port(local)
            return [row for size in (4_096, 200_000) for row in self._invoke(local, port, os.urandom(size))]

    def _invoke(self, local: Local, port: int, body: bytes) -> list[Row]:
        straight, plain = Connection(f"127.0.0.1:{port}"), Signed("POST", "/invocations", _PHOTO, body)
        wire, signed = local.connection(), local.invocation("bench", body)
        client = local.client("sagemaker-runtime")

        def ask() -> None:
            client.invoke_endpoint(EndpointName="bench", ContentType="image/jpeg", Body=body)["Body"].read()

        found = self._in_turns(
            {
                "container": lambda _: straight.ms(plain),
                "signed HTTP": lambda _: wire.ms(signed),
                "boto3": lambda _: _ms(ask),
            }
        )
        limit = found.pop("container")
        return [self._added(name, len(body), values, limit) for name, values in found.items()]

    def _added(self, name: str, size: int, values: list[float], limit: list[float]) -> Row:
        added = tuple(a - b for a, b in zip(values, limit, strict=True))
        detail = f"ms: {statistics.median(values):.2f} - {statistics.median(limit):.2f}"
        what = f"invocation of {size // 1000} KB by {name} - straight to the container"
        return Row(f"invoke, {name}", what, "< 3 ms", added, "ms", detail, self._others)

    # ---- warm pools --------------------------------------------------------------------------------------------

    def warm(self, runner: str) -> list[Row]:
        """Seconds from CreateTrainingJob to the trainer's first line, for jobs that find somebody waiting."""
        with self._local(runner) as local:
            client, taken = local.client("sagemaker"), []
            for number in range(self._rounds + 1):
                taken.append(self._first_line_s(local, client, f"job-{number}"))
                _LOG.info("warm, %s: job %d %.2f s", runner, number, taken[-1])
                if number < self._rounds:
                    time.sleep(_PAUSE_S)
        detail = f"the first, cold job: {taken[0]:.2f} s"
        what = f"from CreateTrainingJob to the trainer's first line, {_PAUSE_S:.0f} s after the last job of the pool"
        return [Row(f"warm, {runner}", what, "< 1 s", tuple(taken[1:]), "s", detail, self._others)]

    def _first_line_s(self, local: Local, client: Any, name: str) -> float:
        sent_s = time.time()
        client.create_training_job(**_job(name, self._train_image, self._folder / "photos", local.folder / "output"))
        wait_for_status(client, name)
        logs = local.home.logs
        [stream] = logs.streams(TRAINING_LOGS, f"{name}/")
        first = next(logs.read(TRAINING_LOGS, stream))
        return first.timestamp_ms / 1000 - sent_s


def _train(image: str, number: int, folder: Path) -> list[str]:
    words = ["train", str(folder / "photos"), "--image", image, "--name", f"line-{number}", "--logs"]
    return [sys.executable, "-m", "kennel.driver", *words]


def _stored(number: int) -> dict[str, str]:
    return {"TrainingJobName": f"stored-{number % _JOBS:05}"}


def _ms(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def _deploy(local: Local) -> None:
    client = local.client("sagemaker")
    model = local.folder / "model"
    model.mkdir()
    (model / "weights").write_text("none", encoding="utf-8")
    data = {"S3DataSource": {"S3Uri": model.as_uri() + "/", "S3DataType": "S3Prefix", "CompressionType": "None"}}
    container = {"Image": "bench-echo", "ModelDataSource": data}
    variant = {"VariantName": "AllTraffic", "ModelName": "bench", "InitialInstanceCount": 1,
               "InstanceType": "ml.m5.large"}  # fmt: skip
    client.create_model(ModelName="bench", PrimaryContainer=container, ExecutionRoleArn=_ROLE)
    client.create_endpoint_config(EndpointConfigName="bench", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="bench", EndpointConfigName="bench")
    client.get_waiter("endpoint_in_service").wait(EndpointName="bench", WaiterConfig={"Delay": 1})


def _endpoint_port(local: Local) -> int:
    runner = make_runner("process", Home(local.home.path))
    [handle] = runner.find(ENDPOINT_LABEL)
    return runner.address(handle, 8080)[1]


def _job(name: str, image: str, data: Path, output: Path) -> dict[str, Any]:
    channels = [
        {
            "ChannelName": kind,
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": (data / kind).as_uri()}},
        }
        for kind in ("train", "validation")
    ]
    return {
        "TrainingJobName": name,
        "RoleArn": _ROLE,
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "HyperParameters": _SMALL,
        "InputDataConfig": channels,
        "OutputDataConfig": {"S3OutputPath": output.as_uri()},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30,
                           "KeepAlivePeriodInSeconds": 600},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }  # fmt: skip


def _docker_answers() -> bool:
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    )


def _line_image(base: str) -> str:
    """The train image with a program that prints a line and ends."""
    text = f"FROM {base}\nENTRYPOINT {json.dumps(['python3', '-c', LINE_PROGRAM])}\n"
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", _LINE_IMAGE, "-"],
        input=text,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return _LINE_IMAGE


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.emulator", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="of everything that takes seconds (default 5)")
    parser.add_argument("--requests", type=int, default=500, help="of everything else (default 500)")
    parser.add_argument("--train-image", default="kennel-train:latest", help="as build_and_push.sh names it")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    given = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    head = {**machine.describe(), "command": f"python -m bench.emulator {' '.join(sys.argv[1:])}".strip()}
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as folder:
        bench = Bench(Path(folder), given.rounds, given.requests, given.train_image)
        rows = [row for name in NAMES if name in given.only for row in bench.rows(name)]
    show(head, rows)


if __name__ == "__main__":
    main()
