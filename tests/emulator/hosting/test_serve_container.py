"""One container: its model is brought safely, it is healthy or says why not, and it ends when it is told."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kennel.emulator.containers.container import CancelledError, Serve, ServeContainer, ServeError
from kennel.emulator.containers.model_data import bring, model_data
from kennel.emulator.runners.base import Running
from kennel.storage import StorageError
from tests.emulator.hosting.hosting_harness import Home, both_runners, make_home, pack, runner_of

OUTSIDE = "/tmp/kennel-outside.txt"  # noqa: S108 - nobody may write it
pytestmark = pytest.mark.usefixtures("echo_image_if_docker")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


class Kit:
    """Starts containers and ends them."""

    def __init__(self, home: Home, runner_name: str) -> None:
        self.home = home
        self.runner = runner_of(home, runner_name)
        self.started: list[ServeContainer] = []

    def make(self, folder: Path, container: dict[str, Any], **options: Any) -> ServeContainer:
        spec = Serve(
            name="one",
            model={"PrimaryContainer": {"Image": "kennel-echo:test", **container}},
            folder=folder / "run",
            model_dir=folder / "model",
            log_file=folder / "log",
            region="eu-central-1",
            labels={"test": "one"},
            **options,
        )
        self.started.append(ServeContainer(self.runner, spec))
        return self.started[-1]


@pytest.fixture
def kit(home: Home, runner_name: str) -> Iterator[Kit]:
    made = Kit(home, runner_name)
    yield made
    for container in made.started:
        container.stop(0)


def post(container: ServeContainer) -> dict[str, Any]:
    connection = http.client.HTTPConnection(*container.address())
    connection.request("POST", "/invocations", b"photo")
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


@both_runners
def test_a_model_is_unpacked_served_and_stopped(kit: Kit, tmp_path: Path) -> None:
    url = pack(tmp_path / "model.tar.gz", "meow")
    container = kit.make(tmp_path, {"ModelDataUrl": url, "Environment": {"MY_WORD": "x"}})
    handle = container.start()
    container.wait_until_healthy()
    said = post(container)
    assert (said["answer"], said["path"], said["body"]) == ("meow", "/invocations", 5)
    assert said["environ"]["MY_WORD"] == "x"
    assert said["environ"]["AWS_REGION"] == "eu-central-1"
    assert kit.runner.find("test", "one") == {handle: "one"}
    assert "starts serve" in container.tail()
    again = ServeContainer(kit.runner, container.spec, handle)
    assert again.ping() is None
    start = time.monotonic()
    again.stop()
    assert time.monotonic() - start < 10, "SIGTERM is heeded"
    assert not isinstance(kit.runner.state(handle), Running)
    assert kit.runner.find("test", "one") == {}


@both_runners
def test_a_container_that_ends_while_it_starts_is_told_with_its_log(kit: Kit, tmp_path: Path) -> None:
    container = kit.make(tmp_path, {"Environment": {"START_EXIT": "3"}})
    container.start()
    with pytest.raises(ServeError, match="exit code 3.*there is no such class"):
        container.wait_until_healthy()


def test_a_container_that_never_listens_is_given_up_at_the_limit(kit: Kit, tmp_path: Path) -> None:
    container = kit.make(tmp_path, {"Environment": {"START_SLEEP_S": "60"}}, startup_s=0.5)
    container.start()
    with pytest.raises(ServeError, match=r"did not pass the ping health check in 0.5 s"):
        container.wait_until_healthy()
    with pytest.raises(CancelledError):
        container.wait_until_healthy(lambda: True)


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(kit: Kit, tmp_path: Path) -> None:
    container = kit.make(tmp_path, {})
    handle = container.start()
    container.wait_until_healthy()
    os.kill(post(container)["pid"], signal.SIGSTOP)
    container.stop(0.5)
    assert not isinstance(kit.runner.state(handle), Running)


def test_an_image_that_nobody_knows_is_told(kit: Kit, tmp_path: Path) -> None:
    container = kit.make(tmp_path, {"Image": "unknown"})
    with pytest.raises(ServeError, match="no command for the image 'unknown'"):
        container.start()


def test_a_folder_is_brought_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "code").mkdir(parents=True)
    (source / "answer.txt").write_text("plain")
    (source / "code/inference.py").write_text("pass")
    data = {"S3Uri": source.as_uri() + "/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    bring(model_data({"ModelDataSource": {"S3DataSource": data}}), tmp_path / "model")
    assert (tmp_path / "model/answer.txt").read_text() == "plain"
    assert (tmp_path / "model/code/inference.py").exists()


def archive(path: Path, member: tarfile.TarInfo, data: bytes = b"") -> str:
    member.size = len(data)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(data))
    return path.as_uri()


def test_permissions_are_kept(tmp_path: Path) -> None:
    member = tarfile.TarInfo("run.sh")
    member.mode = 0o755
    bring(model_data({"ModelDataUrl": archive(tmp_path / "m.tar.gz", member, b"#!")}), tmp_path / "model")
    assert (tmp_path / "model/run.sh").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["../outside.txt", OUTSIDE, "a/../../outside.txt"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    url = archive(tmp_path / "m.tar.gz", tarfile.TarInfo(name), b"x")
    if name.startswith("/"):  # the filter takes the slash off
        bring(model_data({"ModelDataUrl": url}), tmp_path / "model")
        assert (tmp_path / "model" / name[1:]).read_bytes() == b"x"
    else:
        with pytest.raises(StorageError, match="is not unpacked"):
            bring(model_data({"ModelDataUrl": url}), tmp_path / "model")
        assert not (tmp_path / "model").exists()
    assert not (tmp_path / "outside.txt").exists()
    assert not Path(OUTSIDE).exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_no_link_leaves_the_folder_and_no_device_is_made(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("link")
    member.type, member.linkname = kind, "../../secret"
    with pytest.raises(StorageError, match="is not unpacked"):
        bring(model_data({"ModelDataUrl": archive(tmp_path / "m.tar.gz", member)}), tmp_path / "model")


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.tar.gz").write_bytes(b"no archive")
    with pytest.raises(StorageError, match="cannot be unpacked"):
        bring(model_data({"ModelDataUrl": (tmp_path / "m.tar.gz").as_uri()}), tmp_path / "model")
