"""The other front: real Java, real processes, and the same answers as the native one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest
import torch

from kennel.classifier.network.predictor import Predictor
from kennel.contract.errors import ArtifactError, ConfigError
from serving.backend import Call
from serving.backends.mms_model import MmsModel
from serving.backends.mms_process import check_installed
from serving.backends.mms_wire import pack, unpack
from tests.images import unavailable
from tests.serving.serving_harness import (
    MMS,
    ROOT,
    Boom,
    Front,
    Server,
    encoded,
    network,
    npy,
    same_ranking,
    save,
    scene,
)
from tests.serving.test_invocations import expected
from tests.serving.test_server_life import HalfSent, overflowing_artifact

pytestmark = pytest.mark.slow
JPEG, PNG, JSON = ({"Content-Type": name} for name in ("image/jpeg", "image/png", "application/json"))
PHOTO = encoded(scene(3), "JPEG")
BACK_S = 3


@pytest.fixture(scope="module", autouse=True)
def front() -> Front:
    """This front alone: what all of them do is tested elsewhere."""
    try:
        check_installed()
    except ConfigError as error:
        unavailable(str(error))
    return MMS


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[Server]:
    """A ready server of two workers, with variables around that would open MMS's management API to the network."""
    hostile = {"MMS_MANAGEMENT_ADDRESS": "http://0.0.0.0:18999", "MMS_ENABLE_ENVVARS_CONFIG": "true"}
    with MMS.serving(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="2", **hostile) as running:
        running.wait_until_ready()
        yield running
        family = processes(running)
        assert running.end() == (0, "")
        assert_gone(family)


def processes(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def java(server: Server) -> psutil.Process:
    return next(one for one in processes(server) if one.name() == "java")


def listener(server: Server) -> psutil.Process:
    return next(one for one in java(server).children() if "model_service_worker.py" in " ".join(one.cmdline()))


def workers(server: Server) -> list[psutil.Process]:
    return [one for one in listener(server).children() if one.is_running() and not is_zombie(one)]


def is_zombie(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def assert_gone(family: list[psutil.Process]) -> None:
    """Orphans are reaped by whoever adopts them, a moment later."""
    assert len(family) >= 2, "there was nothing to leave behind"
    left = psutil.wait_procs(family, timeout=3)[1]
    assert [one for one in left if not is_zombie(one)] == []


def post(server: Server, body: bytes, headers: dict[str, str] = JPEG, path: str = "/invocations") -> httpx.Response:
    with server.client() as client:
        return client.post(path, content=body, headers=headers)


def in_background(action: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(action()))
    thread.start()

    def answer() -> httpx.Response:
        thread.join()
        return answers[0]

    return answer


def test_a_request_travels_to_a_worker_unchanged():
    call = Call(bytes(range(256)), {"accept": "text/csv", "x-custom": "a=\xe9\n"}, {"top_k": "3"})
    assert unpack(bytearray(pack(call))) == call


def test_a_requests_clock_starts_when_a_worker_can_have_it():
    model = MmsModel("m1", "model", Path(), workers=1)
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(model.request())
        second.enter_context(model.request())
        time.sleep(0.05)
        assert model.longest_s() >= 0.05
        first.close()
        assert model.longest_s() < 0.05, "the second one was charged for the first one's time"
    assert model.longest_s() == 0


def test_answers_equal_the_trainers_for_every_kind_of_photo(server, predictor, photos):
    for name, photo in photos.items():
        answer = post(server, photo, {"Content-Type": "application/octet-stream"})
        assert answer.status_code == 200, (name, answer.text)
        assert same_ranking(answer.json()["predictions"], expected(predictor, photo), 1e-5), name


def test_types_options_and_custom_attributes_reach_the_worker(server):
    csv = post(server, PHOTO, {**JPEG, "Accept": "text/csv"}, "/invocations?top_k=2")
    assert (csv.status_code, csv.headers["content-type"]) == (200, "text/csv")
    by_attribute = post(server, PHOTO, {**JPEG, "X-Amzn-SageMaker-Custom-Attributes": "top_k=2;timings=true"}).json()
    assert len(by_attribute["predictions"]) == 2
    assert 0 < by_attribute["timings_ms"]["queue"] < 10_000


def test_a_pickle_is_refused_and_not_run(server):
    import numpy as np

    pickled = npy(np.array([Boom()], dtype=object), allow_pickle=True)
    answer = post(server, pickled, {"Content-Type": "application/x-npy"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_npy")


def test_a_body_over_the_limit_is_413_and_one_below_it_passes_through_java(server):
    assert post(server, bytes(7 * 1024 * 1024)).status_code == 413
    below = post(server, bytes(6 * 1024 * 1024))
    assert (below.status_code, below.json()["code"]) == (400, "invalid_image")


def test_nobody_but_the_front_listens_and_the_front_knows_no_management(server):
    family = [psutil.Process(server.process.pid), *processes(server)]
    listening = [one.laddr for each in family for one in each.net_connections("inet") if one.status == "LISTEN"]
    assert listening == [("127.0.0.1", server.port)]
    [listens] = server.told("mms_listening")
    assert Path(listens["folder"]).stat().st_mode & 0o777 == 0o700
    with server.client() as client:
        assert client.post("/models", params={"url": "http://127.0.0.1/evil.mar"}).status_code == 404
        assert client.get("/models").status_code == 404
        assert client.get("/api-description").status_code == 404


def test_the_artifact_is_not_on_the_workers_path(server, artifact):
    for one in [listener(server), *workers(server)]:
        assert str(artifact) not in " ".join([*one.cmdline(), one.environ()["PYTHONPATH"], one.cwd()])


def test_a_killed_worker_is_back_within_three_seconds_and_no_request_is_lost(server):
    stop = threading.Event()
    statuses = []

    def ask():
        while not stop.is_set():
            statuses.append(post(server, PHOTO).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    victim = workers(server)[0]
    victim.kill()
    killed = time.monotonic()
    server.wait_for(lambda: victim not in workers(server) and len(workers(server)) == 2, "a new worker")
    seconds = time.monotonic() - killed
    stop.set()
    for thread in threads:
        thread.join()
    assert seconds < BACK_S
    assert set(statuses) == {200}
    server.told("workers_back")
    with server.client() as client:
        assert client.get("/ping").status_code == 200


def test_a_request_whose_worker_is_killed_is_answered_by_another(server, slow_body):
    before = len(server.events("no_answer"))
    answer = in_background(lambda: post(server, slow_body, JSON))
    time.sleep(0.5)
    for worker in workers(server):
        worker.kill()
    assert answer().status_code == 200
    assert len(server.told("no_answer", before + 1)) == before + 1


def test_a_request_whose_workers_are_killed_again_is_503_with_retry_after(server, slow_body):
    answer = in_background(lambda: post(server, slow_body, JSON))
    before = len(server.events("no_answer"))
    while len(server.events("no_answer")) < before + 2:
        time.sleep(0.4)
        for worker in workers(server):
            worker.kill()
    refused = answer()
    assert (refused.status_code, refused.json()["code"]) == (503, "worker_died")
    assert int(refused.headers["retry-after"]) >= 1
    assert post(server, PHOTO).status_code == 200


def test_sigterm_answers_every_accepted_request_and_leaves_no_process(artifact, start_server):
    server = start_server(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="1")
    server.wait_until_ready()
    family, [listens] = processes(server), server.told("mms_listening")
    accepted = [HalfSent(server.port) for _ in range(8)]
    for request in accepted[:4]:
        request.finish()
    server.process.send_signal(signal.SIGTERM)
    server.told("stopping")
    for request in accepted[4:]:
        request.finish()
    assert [request.answer()[0] for request in accepted] == [200] * 8
    assert server.end(terminate=False) == (0, "")
    assert_gone(family)
    assert not Path(listens["folder"]).exists()


def ended(server: Server) -> str:
    """The sentence with which a server ends by itself, within seconds."""
    server.process.wait(30)
    status, errors = server.end(terminate=False)
    assert status == 1
    assert errors.startswith("serving: ")
    assert errors.count("\n") == 1
    return errors


def test_a_killed_listener_ends_the_server_because_nobody_starts_another(artifact, start_server):
    server = start_server(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="1")
    server.wait_until_ready()
    family = processes(server)
    listener(server).kill()
    assert "The process that starts the workers of model 'model' is gone" in ended(server)
    assert_gone(family)


def test_weights_of_nan_end_the_server_with_the_native_fronts_sentence(tmp_path, start_server):
    model = network()
    with torch.no_grad():
        model.fc.weight[0] = float("nan")
    server = start_server(save(tmp_path / "model", model))
    assert "sum to nan, not 1. The weights are damaged: train again." in ended(server)
    assert not server.events("ready")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[tuple[Server, Path]]:
    """A multi-model server without a model, and the folder that it takes models from."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(artifact, root / "good")
    with MMS.serving(root, many=True) as running:
        running.wait_until_ready()
        yield running, root


def load(server: Server, name: str, folder: Path) -> httpx.Response:
    with server.client() as client:
        return client.post("/models", json={"model_name": name, "url": str(folder)})


def test_models_come_answer_and_go(many, predictor):
    server, root = many
    assert load(server, "über 1 & co?", root / "good").status_code == 200
    assert load(server, "über 1 & co?", root / "good").status_code == 409
    answer = post(server, PHOTO, path="/models/%C3%BCber%201%20%26%20co%3F/invoke")
    assert same_ranking(answer.json()["predictions"], expected(predictor, PHOTO), 1e-5)
    family = [listener(server), *workers(server)]
    with server.client() as client:
        assert client.delete("/models/%C3%BCber%201%20%26%20co%3F").status_code == 200
        assert client.get("/ping").status_code == 200
    assert_gone(family)
    assert post(server, PHOTO, path="/models/%C3%BCber%201%20%26%20co%3F/invoke").status_code == 404


def test_a_damaged_model_is_400_with_the_reason_and_leaves_nothing_running(many):
    server, root = many
    shutil.copytree(root / "good", root / "damaged")
    (root / "damaged/model.safetensors").write_bytes(b"no weights")
    answer = load(server, "damaged", root / "damaged")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_model")
    with pytest.raises(ArtifactError) as native:
        Predictor.load(root / "damaged")
    assert answer.json()["error"] == str(native.value)
    server.wait_for(lambda: not java(server).children(), "the end of the processes")


def test_a_fault_of_the_handler_is_500_with_an_id_and_the_traceback_is_in_the_log_alone(many):
    server, root = many
    _, white = overflowing_artifact(root / "overflowing")
    assert load(server, "overflowing", root / "overflowing").status_code == 200
    answer = post(server, white, PNG, "/models/overflowing/invoke")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] in answer.json()["error"]
    assert "Traceback" not in answer.text
    fault = server.told("fault")[0]
    assert fault["request_id"] == answer.headers["x-request-id"]
    assert "in handle" in fault["traceback"]


def test_a_killed_java_ends_the_server_and_the_workers_that_it_left(many):
    server, _ = many
    family, [listens] = processes(server), server.told("mms_listening")
    java(server).kill()
    assert "Java process was killed by SIGKILL" in ended(server)
    assert_gone(family)
    assert not Path(listens["folder"]).exists()


def test_a_killed_server_leaves_no_process_and_no_folder(tmp_path, start_server):
    server = start_server(tmp_path, many=True)
    server.wait_until_ready()
    family, [listens] = processes(server), server.told("mms_listening")
    server.process.kill()
    assert_gone(family)
    assert not Path(listens["folder"]).exists()
    with suppress(AssertionError):
        server.end(terminate=False)


def test_without_java_one_sentence_says_what_to_install(artifact):
    environ = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    command = [sys.executable, "-m", "serving", "serve", "--front", "mms", "--model-dir", str(artifact), "--port", "0"]
    done = subprocess.run(
        command, cwd=ROOT, env={**environ, "PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "needs Java 17" in done.stderr
    assert "apt-get install openjdk-17-jre-headless" in done.stderr
    assert done.stderr.count("\n") == 1
