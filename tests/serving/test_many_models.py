"""A multi-model server over HTTP: the contract's routes, loading and unloading under load, and who leaves first."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.serving_harness import Front, Server, encoded, scene

JPEG = {"Content-Type": "image/jpeg"}
PHOTO = encoded(scene(1), "JPEG")
Url = Callable[[str], str]


@pytest.fixture(scope="module")
def models_dir(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in "abcde":
        shutil.copytree(artifact, root / name / "model")
    return root


@pytest.fixture(scope="module")
def running(front: Front, models_dir: Path) -> Iterator[Server]:
    environ = {"KENNEL_MAX_MODELS": "3", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    with front.serving(models_dir, many=True, **environ) as server:
        server.wait_until_ready()
        yield server
        assert server.end() == (0, "")


@pytest.fixture
def many(running: Server) -> Iterator[tuple[Server, httpx.Client]]:
    """A server without a model, whose log begins here."""
    with running.client() as client:
        for one in client.get("/models").json()["models"]:
            client.delete(f"/models/{one['modelName']}")
        running.lines[:] = [line for line in running.lines if '"listening"' in line]
        yield running, client


@pytest.fixture
def url(front: Front, models_dir: Path) -> Url:
    return lambda name: front.url(models_dir, name)


def load(client: httpx.Client, url: Url, name: str) -> httpx.Response:
    return client.post("/models", json={"model_name": name, "url": url(name)})


def invoke(client: httpx.Client, name: str) -> httpx.Response:
    return client.post(f"/models/{name}/invoke", content=PHOTO, headers=JPEG)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_models_are_loaded_listed_used_and_unloaded_by_the_contract(many, url):
    server, client = many
    assert client.get("/models").json() == {"models": []}
    assert code(invoke(client, "a")) == (404, "model_not_found")
    assert code(client.get("/models/a")) == (404, "model_not_found")
    assert code(client.delete("/models/a")) == (404, "model_not_found")
    for name in "bac":
        assert load(client, url, name).status_code == 200
    assert code(load(client, url, "a")) == (409, "model_loaded")
    assert client.get("/models/a").json() == {"modelName": "a", "modelUrl": url("a")}
    first = client.get("/models?limit=2").json()
    assert [one["modelName"] for one in first["models"]] == ["a", "b"]
    rest = client.get("/models", params={"limit": 2, "next_page_token": first["nextPageToken"]}).json()
    assert rest == {"models": [{"modelName": "c", "modelUrl": url("c")}]}
    assert len(invoke(client, "a").json()["predictions"]) == 5
    assert client.delete("/models/a").status_code == 200
    assert code(invoke(client, "a")) == (404, "model_not_found")
    assert code(client.post("/invocations", content=PHOTO, headers=JPEG)) == (404, "not_found")
    assert [one["model_name"] for one in server.told("model_unloaded")] == ["a"]


def test_what_cannot_be_loaded_is_refused_and_leaves_nothing(many, url, models_dir):
    _, client = many
    damaged = models_dir / "damaged/model"
    shutil.copytree(models_dir / "a/model", damaged, dirs_exist_ok=True)
    (damaged / "model.safetensors").write_bytes(b"damaged")
    for body, wanted in [
        ({"model_name": "x", "url": "/etc"}, "invalid_url"),
        ({"model_name": "x", "url": url("../../etc")}, "invalid_url"),
        ({"model_name": "x", "url": url("nobody")}, "invalid_url"),
        ({"model_name": "x", "url": "https://example.com/model.mar"}, "invalid_url"),
        ({"model_name": "x"}, "invalid_url"),
        ({"model_name": "x/y", "url": url("a")}, "invalid_json"),
        ({"url": url("a")}, "invalid_json"),
        ([], "invalid_json"),
        ({"model_name": "x", "url": url("damaged")}, "invalid_model"),
    ]:
        assert code(client.post("/models", json=body)) == (400, wanted), body
    assert client.get("/models").json() == {"models": []}
    assert load(client, url, "a").status_code == 200


def test_the_least_recently_used_model_leaves_first_and_comes_back_when_it_is_asked_for(many, url):
    server, client = many
    for name in "abc":
        load(client, url, name)
    wanted = invoke(client, "a").json()  # b is now the one that was idle for longest
    assert load(client, url, "d").status_code == 200
    assert [one["model_name"] for one in server.told("model_left")] == ["b"]
    assert len(client.get("/models").json()["models"]) == 4
    assert invoke(client, "b").json()["predictions"] == wanted["predictions"]
    assert [one["model_name"] for one in server.told("model_left", 2)] == ["b", "c"]
    text = client.get("/metrics").text
    assert "kennel_models 4.0" in text
    assert "kennel_models_in_memory 3.0" in text


def test_a_model_whose_files_went_away_while_it_was_out_of_memory_is_a_sentence(many, url, models_dir):
    server, client = many
    gone = models_dir / "gone/model"
    shutil.copytree(models_dir / "a/model", gone)
    for name in ("gone", "a", "b", "c"):
        assert load(client, url, name).status_code == 200
    assert [one["model_name"] for one in server.told("model_left")] == ["gone"]
    shutil.rmtree(gone)
    answer = invoke(client, "gone")
    assert code(answer) == (500, "invalid_model")
    assert "Model 'gone' cannot come back" in answer.json()["error"]
    assert "traceback" not in server.lines[-1]
    assert invoke(client, "c").status_code == 200


def test_no_request_is_lost_while_models_come_and_go(many, url):
    server, client = many
    load(client, url, "a")
    stop, statuses = threading.Event(), []

    def ask() -> None:
        with server.client() as own:
            while not stop.is_set():
                statuses.append(invoke(own, "a").status_code)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for _ in range(4):
        for name in "bcde":
            assert load(client, url, name).status_code == 200
        for name in "bcde":
            assert client.delete(f"/models/{name}").status_code == 200
    stop.set()
    for asker in askers:
        asker.join()
    assert len(statuses) > 20
    assert set(statuses) == {200}
    assert "a" not in [one["model_name"] for one in server.events("model_left")]


def test_unloading_waits_for_the_last_answer(many, url, slow_body):
    server, client = many
    load(client, url, "a")
    answers = []

    def ask() -> None:
        with server.client() as own:
            headers = {"Content-Type": "application/json"}
            answers.append(own.post("/models/a/invoke", content=slow_body, headers=headers).status_code)

    asker = threading.Thread(target=ask)
    asker.start()
    server.wait_for(lambda: "kennel_places_taken 1.0" in client.get("/metrics").text, "the request")
    assert client.delete("/models/a").status_code == 200
    assert code(client.get("/models/a")) == (404, "model_not_found")
    asker.join()
    assert answers == [200]


def test_unloading_waits_for_a_request_whose_body_is_still_coming(many, url):
    server, client = many
    load(client, url, "a")
    answers, rest = [], threading.Event()

    def body() -> Iterator[bytes]:
        yield PHOTO[:100]
        rest.wait(30)
        yield PHOTO[100:]

    def ask() -> None:
        with server.client() as own:
            answers.append(own.post("/models/a/invoke", content=body(), headers=JPEG).status_code)

    def unload() -> None:
        with server.client() as own:
            answers.append(own.delete("/models/a").status_code)

    asker, unloader = threading.Thread(target=ask), threading.Thread(target=unload)
    asker.start()
    server.wait_for(lambda: "kennel_places_taken 1.0" in client.get("/metrics").text, "the request")
    unloader.start()
    server.wait_for(lambda: client.get("/models/a").status_code == 404, "the unloading")
    assert code(load(client, url, "a")) == (409, "model_leaving")
    assert answers == []
    rest.set()
    asker.join()
    unloader.join()
    assert answers == [200, 200]
    assert load(client, url, "a").status_code == 200


def test_a_model_that_does_not_fit_beside_busy_ones_gets_507(front, url, models_dir, slow_body):
    environ = {"KENNEL_MAX_MODELS": "1", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    with front.serving(models_dir, many=True, **environ) as server:
        server.wait_until_ready()
        with server.client() as client, server.client() as busy:
            load(client, url, "a")
            headers = {"Content-Type": "application/json"}
            asker = threading.Thread(
                target=lambda: busy.post("/models/a/invoke", content=slow_body, headers=headers), daemon=True
            )
            asker.start()
            server.wait_for(lambda: "kennel_places_taken 1.0" in client.get("/metrics").text, "the request")
            answer = load(client, url, "b")
            assert code(answer) == (507, "no_memory")
            assert "KENNEL_MAX_MODELS is 1" in answer.json()["error"]
            asker.join()
            assert load(client, url, "b").status_code == 200
            assert json.loads(client.get("/models").content)["models"][0]["modelName"] == "a"
