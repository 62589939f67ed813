"""Endpoints of several models: loaded by name when they are asked for, unloaded to make room."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.emulator.emulator_harness import running, wait_for
from tests.emulator.hosting.hosting_harness import IMAGE, ROLE, Hosted, both_runners, make_home, pack, refused


def deploy(hosted: Hosted, name: str, folder: Path, count: int = 1, **container: Any) -> None:
    """An endpoint whose models are the archives below a folder; two of them are there."""
    folder.mkdir(parents=True, exist_ok=True)
    pack(folder / "cat.tar.gz", "meow")
    pack(folder / "wild/dog.tar.gz", "woof")
    given = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": folder.as_uri() + "/", **container}
    hosted.sagemaker.create_model(ModelName=name, PrimaryContainer=given, ExecutionRoleArn=ROLE)
    hosted.config(name, name, count=count)
    found = hosted.create(name)
    assert found["EndpointStatus"] == "InService", found


def ask(hosted: Hosted, name: str, model: str, **members: Any) -> dict[str, Any]:
    return hosted.say(name, TargetModel=model, **members)


def log(hosted: Hosted, name: str, what: str) -> int:
    """How often the containers of an endpoint have printed a line."""
    folder = hosted.emulator.home / "logs/aws/sagemaker/Endpoints" / name
    lines = [line for path in folder.iterdir() for line in path.read_text().splitlines()]
    return [json.loads(line)["message"] for line in lines].count(what)


@both_runners
def test_models_are_loaded_when_they_are_asked_for(hosted: Hosted, tmp_path: Path) -> None:
    deploy(hosted, "pets", tmp_path / "models")
    said = ask(hosted, "pets", "cat.tar.gz", CustomAttributes='{"trace": "7"}')
    assert (said["answer"], said["body"]) == ("meow", 5)
    assert said["path"].startswith("/models/")
    assert said["path"].endswith("/invoke")
    assert said["headers"]["x-amzn-sagemaker-target-model"] == "cat.tar.gz"
    assert said["headers"]["x-amzn-sagemaker-custom-attributes"] == '{"trace": "7"}'
    assert said["environ"]["SAGEMAKER_MULTI_MODEL"] == "true"
    assert ask(hosted, "pets", "wild/dog.tar.gz")["answer"] == "woof"
    assert ask(hosted, "pets", "cat.tar.gz")["answer"] == "meow"
    wait_for(lambda: log(hosted, "pets", "load cat.tar.gz"))
    assert (log(hosted, "pets", "load cat.tar.gz"), log(hosted, "pets", "unload")) == (1, 0)
    pack(tmp_path / "models/bird.tar.gz", "tweet")
    assert ask(hosted, "pets", "bird.tar.gz")["answer"] == "tweet", "a new archive needs no update"


def test_what_names_no_model_is_refused(shared: Hosted, tmp_path: Path) -> None:
    deploy(shared, "named", tmp_path / "models")
    pack(tmp_path / "secret.tar.gz", "secret")
    (tmp_path / "models/broken.tar.gz").write_bytes(b"no archive")
    pack(tmp_path / "models/strange.tar.gz", "x", member="other.txt")
    with refused("ValidationError", "several models. Send TargetModel"):
        shared.invoke("named")
    with refused("ValidationError", "Failed to download model data for TargetModel fish.tar.gz.*No such file"):
        ask(shared, "named", "fish.tar.gz")
    with refused("ValidationError", "no path below a folder"):
        ask(shared, "named", "../secret.tar.gz")
    with refused("ValidationError", "no path below a folder"):
        ask(shared, "named", str(tmp_path / "secret.tar.gz"))
    with refused("ValidationError", "cannot be unpacked"):
        ask(shared, "named", "broken.tar.gz")
    with refused("ModelError", r"client error \(400\).*no model of mine"):
        ask(shared, "named", "strange.tar.gz")
    pack(tmp_path / "models/fish.tar.gz", "blub")
    assert ask(shared, "named", "fish.tar.gz")["answer"] == "blub", "a failure is not remembered"


def test_the_least_recently_used_model_leaves_when_memory_runs_out(shared: Hosted, tmp_path: Path) -> None:
    deploy(shared, "small", tmp_path / "models", Environment={"MY_MAX_MODELS": "2"})
    pack(tmp_path / "models/bird.tar.gz", "tweet")
    for model in ("cat.tar.gz", "wild/dog.tar.gz", "cat.tar.gz", "bird.tar.gz"):  # the dog is idle for longest
        ask(shared, "small", model)
    ask(shared, "small", "cat.tar.gz")
    wait_for(lambda: log(shared, "small", "unload"))
    assert log(shared, "small", "load cat.tar.gz") == 1, "the cat has stayed"
    assert log(shared, "small", "unload") == 1
    assert ask(shared, "small", "wild/dog.tar.gz")["answer"] == "woof", "and the dog comes back"
    assert ask(shared, "small", "bird.tar.gz")["answer"] == "tweet"


def test_a_model_for_which_there_never_is_room_is_a_model_error(shared: Hosted, tmp_path: Path) -> None:
    deploy(shared, "full", tmp_path / "models", Environment={"MY_MAX_MODELS": "0"})
    with refused("ModelError", r"server error \(507\)"):
        ask(shared, "full", "cat.tar.gz")


def test_models_below_a_place_that_is_none_fail_the_endpoint(shared: Hosted) -> None:
    container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": "https://models.example/"}
    shared.sagemaker.create_model(ModelName="nowhere", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    shared.config("nowhere", "nowhere")
    assert "is no URI of data" in shared.create("nowhere")["FailureReason"]


def test_a_model_that_waits_for_others_to_end_is_not_ready(shared: Hosted, tmp_path: Path) -> None:
    deploy(shared, "busy", tmp_path / "models", Environment={"MY_MAX_MODELS": "1"})
    with shared.in_flight("busy", {"sleep_s": 3}, TargetModel="cat.tar.gz"):
        wait_for(lambda: log(shared, "busy", "load cat.tar.gz"))
        with refused("ModelNotReadyException", "all other models are in use"):
            ask(shared, "busy", "wild/dog.tar.gz")
    assert ask(shared, "busy", "wild/dog.tar.gz")["answer"] == "woof"


def test_without_cache_a_model_leaves_after_its_request(shared: Hosted, tmp_path: Path) -> None:
    setting = {"ModelCacheSetting": "Disabled"}
    deploy(shared, "fresh", tmp_path / "models", MultiModelConfig=setting)
    for number in (1, 2):
        assert ask(shared, "fresh", "cat.tar.gz")["answer"] == "meow"
        wait_for(lambda: log(shared, "fresh", "unload") == number)  # noqa: B023 - it is called at once
    assert log(shared, "fresh", "load cat.tar.gz") == 2


def test_a_model_stays_with_the_instance_that_has_it(shared: Hosted, tmp_path: Path) -> None:
    deploy(shared, "two", tmp_path / "models", count=2)
    pids = {ask(shared, "two", "cat.tar.gz")["pid"] for _ in range(6)}
    assert len(pids) == 1
    with shared.in_flight("two", {"print": "asked", "sleep_s": 5}, TargetModel="cat.tar.gz"):
        wait_for(lambda: log(shared, "two", "asked"))
        wait_for(lambda: ask(shared, "two", "cat.tar.gz")["pid"] not in pids)  # the other one helps out


def test_after_a_death_and_a_restart_models_are_loaded_again(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        deploy(hosted, "pets", tmp_path / "models", Environment={"MY_MAX_MODELS": "1"})
        pid = ask(hosted, "pets", "cat.tar.gz")["pid"]
        emulator.stop(signal.SIGKILL)
    with running(home) as emulator:
        hosted = Hosted(emulator, tmp_path)
        said = ask(hosted, "pets", "wild/dog.tar.gz")
        assert (said["answer"], said["pid"]) == ("woof", pid), "the cat of the last server has left for it"
        os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            with contextlib.suppress(ClientError):
                return bool(ask(hosted, "pets", "cat.tar.gz")["pid"] != pid)
            return False

        wait_for(back)
        hosted.delete_all()


def test_models_that_cannot_be_several_are_refused(shared: Hosted, tmp_path: Path) -> None:
    source = {"S3DataSource": {"S3Uri": tmp_path.as_uri(), "S3DataType": "S3Prefix", "CompressionType": "None"}}
    container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataSource": source}
    with refused("ValidationException", "ModelDataUrl must be the prefix.*takes no ModelDataSource"):
        shared.sagemaker.create_model(ModelName="wrong", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    shared.model("single")
    multi = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": tmp_path.as_uri()}
    shared.sagemaker.create_model(ModelName="several", PrimaryContainer=multi, ExecutionRoleArn=ROLE)
    with refused("ValidationException", "all models must have the same Mode"):
        shared.config("mixed", "single", "several")
