"""A home whose image `kennel-echo` is echo.py, and models for it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from kennel.emulator.runners import make_runner
from kennel.emulator.runners.base import Runner
from kennel.emulator.state.home import Home
from tests.emulator.emulator_harness import Emulator, wait_for

IMAGE = "kennel-echo:test"
ROLE = "arn:aws:iam::000000000000:role/kennel"
ECHO = Path(__file__).parents[1] / "containers/echo.py"
_RUNNERS = [pytest.param("process", id="process"), pytest.param("docker", id="docker", marks=pytest.mark.docker)]
both_runners = pytest.mark.parametrize("runner_name", _RUNNERS, indirect=True)


def refused(error: str, match: str) -> contextlib.AbstractContextManager[Any]:
    return pytest.raises(ClientError, match=rf"\({error}\).*{match}")


def make_home(folder: Path) -> Home:
    home = Home(folder)
    home.make()
    home.images_file.write_text(json.dumps({"kennel-echo": [sys.executable, str(ECHO)]}))
    return home


def runner_of(home: Home, name: str) -> Runner:
    return make_runner(name, home)


def pack(path: Path, answer: str, member: str = "answer.txt") -> str:
    """A model.tar.gz whose container answers with a word; its URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = answer.encode()
    info = tarfile.TarInfo(member)
    info.size = len(data)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(info, io.BytesIO(data))
    return path.as_uri()


class Hosted:
    """A running emulator, its clients, and short forms of what the tests ask."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator = emulator
        self.folder = folder
        self.sagemaker = emulator.client("sagemaker")
        self.runtime = emulator.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}))

    def model(self, name: str, answer: str = "", **environ: str) -> None:
        container: dict[str, Any] = {"Image": IMAGE, "Environment": environ}
        if answer:
            container["ModelDataUrl"] = pack(self.folder / name / "model.tar.gz", answer)
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)

    def config(self, name: str, *models: str, **members: Any) -> None:
        """A configuration with a variant for each model, of the model's name."""
        given = {"InstanceType": "ml.m5.large", "InitialInstanceCount": members.pop("count", 1)}
        variants = [{"VariantName": model, "ModelName": model, **given} for model in models]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **members)

    def create(self, name: str, config: str | None = None) -> dict[str, Any]:
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config or name)
        return self.settled(name)

    def deploy(self, name: str, answer: str = "meow", **members: Any) -> dict[str, Any]:
        """A model, its configuration and its endpoint, all of one name."""
        self.model(name, answer)
        self.config(name, name, **members)
        return self.create(name)

    def describe(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
        return found

    def settled(self, name: str, *, counts: bool = True) -> dict[str, Any]:
        def settle() -> dict[str, Any] | None:
            found = self.describe(name)
            over = found["EndpointStatus"] not in ("Creating", "Updating", "RollingBack")
            full = all(v["CurrentInstanceCount"] == v["DesiredInstanceCount"] for v in found["ProductionVariants"])
            return found if over and (full or not counts or found["EndpointStatus"] == "Failed") else None

        found: dict[str, Any] = wait_for(settle)
        return found

    def invoke(self, name: str, orders: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
        members = {"Body": b"photo", "ContentType": "image/jpeg", **members}
        if orders:
            members["CustomAttributes"] = json.dumps(orders)
        answer: dict[str, Any] = self.runtime.invoke_endpoint(EndpointName=name, **members)
        return answer

    def say(self, name: str, **members: Any) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.invoke(name, **members)["Body"].read())
        return said

    @contextlib.contextmanager
    def in_flight(self, name: str, orders: dict[str, Any], **members: Any) -> Iterator[None]:
        """A request that is under way while the block runs; it must be answered afterwards."""
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(self.invoke, name, orders, **members)
            yield
            sent.result()

    def delete(self, name: str) -> None:
        self.sagemaker.delete_endpoint(EndpointName=name)
        self.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1})

    def delete_all(self) -> None:
        for one in self.sagemaker.list_endpoints(MaxResults=100)["Endpoints"]:
            self.delete(one["EndpointName"])
