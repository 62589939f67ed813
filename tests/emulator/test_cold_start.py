"""The first thing that a fresh server gets is several operations of one kind at once.

A server that other tests have warmed hides what is made by the first of several threads that want it, so every test
here starts its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from botocore.config import Config

from kennel.emulator.state.home import Home
from tests.emulator import emulator_harness as training
from tests.emulator.emulator_harness import Emulator, running
from tests.emulator.hosting.hosting_harness import Hosted, make_home
from tests.emulator.hosting.test_async import answer_to, asynchronous, send
from tests.emulator.transform import transform_harness as transform
from tests.emulator.tuning import tuning_harness as tuning

AT_ONCE = 8
T = TypeVar("T")


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What the calls give, each made by a thread of its own and all let go at the same moment."""
    gate = threading.Barrier(len(calls))

    def call(one: Callable[[], T]) -> T:
        gate.wait(60)
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def clients(emulator: Emulator, service: str = "sagemaker") -> list[Any]:
    """One for each thread, made before anything is asked."""
    once = Config(retries={"total_max_attempts": 1}, read_timeout=120)  # a refusal is no luck that may be tried again
    return [emulator.client(service, config=once) for _ in range(AT_ONCE)]


# All limits are named, as the driver names them: nothing is asked of the container before its records are sent.
NAMED = {"MaxConcurrentTransforms": AT_ONCE, "MaxPayloadInMB": 6, "BatchStrategy": "SingleRecord"}


@pytest.mark.parametrize("turn", range(4))
def test_the_first_transform_of_a_fresh_server_has_all_its_answers(tmp_path: Path, turn: int):
    home = transform.write_images(tmp_path / "home")
    words = {f"n{number:02}_txt": f"word {number} of {turn}" for number in range(24)}
    transform.write(tmp_path, **words)
    wanted = {f"{name.replace('_', '.')}.out": [text] for name, text in words.items()}
    for number in range(5):  # twenty servers in all
        with running(home) as server:
            if not number:
                transform.make_model(server, tmp_path / "model")
            output = {"S3OutputPath": (tmp_path / f"{number}/output").as_uri()}
            found = transform.run(server, transform.job_request(f"first-{number}", tmp_path, output=output, **NAMED))
            assert found["TransformJobStatus"] == "Completed", (number, found)
            assert transform.outputs(tmp_path / str(number)) == wanted


def test_several_transform_jobs_at_once_are_the_first(tmp_path: Path):
    home = transform.write_images(tmp_path / "home")
    transform.write(tmp_path, **{f"n{number:02}_txt": f"word {number}" for number in range(8)})
    with running(home) as server:
        transform.make_model(server, tmp_path / "model")
    with running(home) as server:
        names = [f"job-{number}" for number in range(4)]

        def request(name: str) -> dict[str, Any]:
            output = {"S3OutputPath": (tmp_path / name).as_uri()}
            return transform.job_request(name, tmp_path, output=output, **NAMED)

        at_once([
            lambda client=client, name=name: client.create_transform_job(**request(name))
            for client, name in zip(clients(server), names, strict=False)
        ])  # fmt: skip
        found = [transform.wait(server, name) for name in names]
        assert [one["TransformJobStatus"] for one in found] == ["Completed"] * len(names), found


def test_several_training_jobs_at_once_are_the_first(tmp_path: Path):
    with running(tmp_path / "home") as server:
        made = clients(server)
        names = [f"job-{number}" for number in range(AT_ONCE)]
        at_once([
            lambda client=client, name=name: client.create_training_job(**training.job_request(name, tmp_path / name))
            for client, name in zip(made, names, strict=True)
        ])  # fmt: skip
        found = [training.wait_for_status(made[0], name, "Completed", "Failed", "Stopped") for name in names]
        assert [one["TrainingJobStatus"] for one in found] == ["Completed"] * AT_ONCE, found
        losses = [one["FinalMetricDataList"][0]["Value"] for one in found]
        assert losses == [1.0] * AT_ONCE


def test_several_tuning_jobs_at_once_are_the_first(tmp_path: Path):
    tuning.write_images(tmp_path / "home")
    with running(tmp_path / "home") as server:
        names = [f"tuning-{number}" for number in range(3)]
        at_once([
            lambda client=client, name=name: client.create_hyper_parameter_tuning_job(
                **tuning.request(name, tmp_path / name, jobs=2, Strategy="Bayesian")
            )
            for client, name in zip(clients(server), names, strict=False)
        ])  # fmt: skip
        for name in names:
            found = tuning.ended(server, name)
            assert found["HyperParameterTuningJobStatus"] == "Completed", found
            assert found["TrainingJobStatusCounters"]["Completed"] == 2


def deployed(folder: Path, name: str, **members: Any) -> Home:
    """A home with an endpoint in service, which a server has left to the next."""
    home = make_home(folder / "home")
    with running(home.path) as server:
        assert Hosted(server, folder).deploy(name, **members)["EndpointStatus"] == "InService"
    return home


def test_several_invocations_at_once_are_the_first(tmp_path: Path):
    home = deployed(tmp_path, "cats", count=2)
    with running(home.path) as server:
        runtimes = clients(server, "sagemaker-runtime")
        for _ in range(5):  # the first answers leave connections, which the next ones use
            answers = at_once([
                lambda client=client: client.invoke_endpoint(EndpointName="cats", Body=b"photo") for client in runtimes
            ])  # fmt: skip
            assert [json.loads(one["Body"].read())["answer"] for one in answers] == ["meow"] * AT_ONCE
        Hosted(server, tmp_path).delete_all()


def test_several_endpoints_at_once_are_the_first(tmp_path: Path):
    home = make_home(tmp_path / "home")
    with running(home.path) as server:
        hosted = Hosted(server, tmp_path)
        hosted.model("cats", "meow")
        hosted.config("cats", "cats")
    with running(home.path) as server:
        hosted = Hosted(server, tmp_path)
        names = [f"cats-{number}" for number in range(4)]
        at_once([
            lambda client=client, name=name: client.create_endpoint(EndpointName=name, EndpointConfigName="cats")
            for client, name in zip(clients(server), names, strict=False)
        ])  # fmt: skip
        assert [hosted.settled(name)["EndpointStatus"] for name in names] == ["InService"] * len(names)
        assert [hosted.say(name)["answer"] for name in names] == ["meow"] * len(names)
        hosted.delete_all()


def test_several_asynchronous_requests_at_once_are_the_first(tmp_path: Path):
    home = deployed(tmp_path, "later", count=2, **asynchronous(tmp_path, concurrent=4))
    with running(home.path) as server:
        hosted = [Hosted(server, tmp_path) for _ in range(AT_ONCE)]
        for _ in range(3):
            sent = at_once([lambda one=one: send(one, "later", Body=b"photo") for one in hosted])
            assert [answer_to(one)["answer"] for one in sent] == ["meow"] * AT_ONCE
        hosted[0].delete_all()
