"""Start, overload and stop of the real process."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
import torch
from PIL import Image

from kennel.classifier.data.preprocess import normalise
from kennel.classifier.network.predictor import Predictor
from serving.server import LAST_CALL_S, listen
from tests.serving.serving_harness import ROOT, Server, b64, encoded, network, same_ranking, save, scene

PHOTO = encoded(scene(3), "JPEG")
HEAD = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}\r\n\r\n"


class HalfSent:
    """A request of which the server has the headers and half the body: it is accepted, and cannot be finished yet."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.sendall(HEAD.encode() + PHOTO[: len(PHOTO) // 2])

    def finish(self) -> None:
        self.socket.sendall(PHOTO[len(PHOTO) // 2 :])

    def answer(self) -> tuple[int, dict]:
        with self.socket, http.client.HTTPResponse(self.socket) as answer:
            answer.begin()
            return answer.status, json.load(answer)


def run_to_end(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(address, timeout=5.0):
    try:
        socket.create_connection(address, timeout=timeout).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def gated(artifact, tmp_path):
    """An artifact whose meta.json is a pipe: loading waits until someone writes into it."""
    folder = shutil.copytree(artifact, tmp_path / "model")
    text = (folder / "meta.json").read_text()
    (folder / "meta.json").unlink()
    os.mkfifo(folder / "meta.json")
    return folder, lambda: (folder / "meta.json").write_text(text)


def test_ping_is_503_until_the_model_can_answer_and_200_after(gated, start_server):
    folder, open_gate = gated
    server = start_server(folder)
    with server.client() as client:
        ping = client.get("/ping")
        assert (ping.status_code, ping.json()["code"]) == (503, "loading")
        early = client.post("/invocations", content=PHOTO, headers={"Content-Type": "image/jpeg"})
        assert (early.status_code, early.json()["code"]) == (503, "loading")
        assert int(early.headers["retry-after"]) >= 1
        open_gate()
        server.wait_until_ready()
        assert client.post("/invocations", content=PHOTO, headers={"Content-Type": "image/jpeg"}).status_code == 200
    assert server.end() == (0, "")


def test_a_stop_while_the_model_loads_does_not_wait_for_it(gated, start_server):
    server = start_server(gated[0])
    writer = server.wait_for(lambda: open_if_read(gated[0] / "meta.json"), "the loader at meta.json")
    assert server.end() == (0, "")
    os.close(writer)
    assert server.events("stopped")


def open_if_read(pipe):
    """A file descriptor of a pipe that someone reads from, else None."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_a_worker_that_does_not_come_back_turns_ping_to_503(start_server, artifact):
    large = b64(encoded(Image.new("RGB", (3000, 2000), "teal"), "PNG"))
    body = json.dumps([large] * 64).encode()  # several seconds of one worker
    server = start_server(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="1", KENNEL_STUCK_S="1")
    server.wait_until_ready()
    answers = []
    asker = threading.Thread(target=lambda: answers.append(post(server, body, "application/json")))
    asker.start()
    with server.client() as client:
        ping = server.wait_for(lambda: unhealthy(client), "an unhealthy /ping")
        assert ping["code"] == "stuck"
        assert "busy with one request for" in ping["error"]
        asker.join()
        assert answers[0].status_code == 200
        assert client.get("/ping").status_code == 200, "it has come back"
    assert server.end() == (0, "")


def unhealthy(client: httpx.Client) -> dict | None:
    answer = client.get("/ping")
    return None if answer.status_code == 200 else answer.json()


@pytest.fixture(scope="module")
def small(front, artifact):
    """One worker, one place to wait, little patience."""
    with front.serving(
        artifact, SAGEMAKER_MODEL_SERVER_WORKERS="1", KENNEL_QUEUE_SIZE="1", KENNEL_BODY_TIMEOUT_S="3"
    ) as server:
        server.wait_until_ready()
        yield server
        assert server.end() == (0, "")


def post(server: Server, body: bytes, kind: str = "image/jpeg") -> httpx.Response:
    with server.client() as client:
        return client.post("/invocations", content=body, headers={"Content-Type": kind})


def test_a_full_queue_is_503_with_retry_after_at_once_and_ping_stays_200(small):
    waiting = [HalfSent(small.port) for _ in range(2)]
    full = small.wait_for(lambda: (answer := post(small, PHOTO)).status_code == 503 and answer, "a full queue")
    assert full.json()["code"] == "queue_full"
    assert int(full.headers["retry-after"]) >= 1
    with small.client() as client:
        assert client.get("/ping").status_code == 200
    for request in waiting:
        request.finish()
    assert [request.answer()[0] for request in waiting] == [200, 200]
    assert post(small, PHOTO).status_code == 200


def test_a_body_that_does_not_come_is_408_and_frees_its_place(small):
    waiting = [HalfSent(small.port) for _ in range(2)]
    for request in waiting:
        status, body = request.answer()
        assert (status, body["code"]) == (408, "body_timeout")
        assert f"{len(PHOTO) // 2} bytes" in body["error"]
    assert post(small, PHOTO).status_code == 200


def test_a_client_that_goes_away_leaves_the_queue(small, slow_body):
    busy = threading.Thread(target=lambda: statuses.append(post(small, slow_body, "application/json").status_code))
    statuses: list[int] = []
    busy.start()
    with small.client() as client:
        small.wait_for(lambda: "kennel_places_taken 1.0" in client.get("/metrics").text, "the busy request")
    small.wait_for(lambda: post_and_leave(small.port) and gone(small), "a request that was left alone")
    assert statuses == [], "the client that left was noticed only when the worker was free again"
    busy.join()
    assert statuses == [200]
    assert post(small, PHOTO).status_code == 200


def post_and_leave(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(HEAD.encode() + PHOTO)
    return True


def gone(server):
    return [line for line in server.events("request") if line.get("error") == "client_gone"]


def test_sigterm_answers_every_accepted_request_and_exits_0(front, artifact, start_server):
    server = start_server(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="1")
    server.wait_until_ready()
    port = server.port
    accepted = [HalfSent(port) for _ in range(8)]
    for request in accepted[:4]:
        request.finish()
    server.process.send_signal(signal.SIGTERM)
    server.told("stopping")
    if not front.image:  # docker's own proxy goes on listening
        server.wait_for(lambda: refused(("127.0.0.1", port)), "a closed door")
    time.sleep(2 * LAST_CALL_S)  # so that it is the drain that keeps them, not the moment before it
    for request in accepted[4:]:
        request.finish()
    answers = [request.answer() for request in accepted]
    assert [status for status, _ in answers] == [200] * 8
    rankings = [body["predictions"] for _, body in answers]
    assert all(same_ranking(one, rankings[0], 1e-6) for one in rankings)  # alone or beside others
    assert server.end(terminate=False) == (0, "")
    [stopped] = server.events("stopped")
    assert stopped["s"] < 30
    assert len([line for line in server.events("request") if line["status"] == 200 and line["method"] == "POST"]) == 8


def test_a_connection_that_was_not_yet_taken_in_when_the_signal_came_is_answered(front, artifact, start_server):
    """A process that gets no processor for a while finds the signal and the connections at the same moment."""
    if front.image:
        pytest.skip("docker's proxy takes connections in before the server does")
    server = start_server(artifact)
    server.wait_until_ready()
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    waiting = [HalfSent(server.port) for _ in range(6)]
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGCONT)
    for request in waiting:
        request.finish()
    assert [request.answer()[0] for request in waiting] == [200] * 6
    assert server.end(terminate=False) == (0, "")


def test_no_packet_of_an_answer_waits_for_the_acknowledgement_of_the_one_before():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def overflowing_artifact(folder):
    """A network that answers a grey photo and overflows to NaN on a white one: damage that no check at load can see."""
    model = network()
    save(folder, model)
    predictor = Predictor.load(folder, torch.device("cpu"))
    features = torch.nn.Sequential(*list(model.children())[:-1], torch.nn.Flatten())
    photos = [
        encoded(Image.new("RGB", (64, 64), colour), kind) for colour, kind in (("grey", "JPEG"), ("white", "PNG"))
    ]
    inputs = normalise(torch.stack([predictor.tensor(photo) for photo in photos]), predictor.meta.preprocessing)
    with torch.inference_mode():
        grey, white = features(inputs).double()
    apart = white - grey * (white @ grey) / (grey @ grey)
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.weight[0] = (apart / apart.abs().max() * 3e38).float()
    return save(folder, model), photos[1]


def test_a_fault_of_the_server_is_500_with_an_id_and_the_traceback_is_in_the_log_alone(tmp_path, start_server):
    folder, white = overflowing_artifact(tmp_path / "model")
    server = start_server(folder)
    server.wait_until_ready()
    answer = post(server, white, "image/png")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] in answer.json()["error"]
    assert "Traceback" not in answer.text
    fault = server.told("fault")[0]
    assert fault["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" in fault["traceback"]
    assert post(server, PHOTO).status_code in (200, 500)
    with server.client() as client:
        assert client.get("/ping").status_code == 200


def test_a_folder_without_a_model_ends_the_server_with_one_sentence(front, tmp_path, start_server):
    server = start_server(tmp_path)
    server.process.wait(60)
    status, errors = server.end(terminate=False)
    assert status == 1
    assert errors.startswith(f"serving: {'/opt/ml/model' if front.image else tmp_path} holds no meta.json")
    assert errors.count("\n") == 1
    assert not server.events("ready")


def test_a_taken_port_ends_the_server_with_one_sentence_before_the_model_is_loaded(artifact):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run_to_end("serve", "--model-dir", str(artifact), "--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"serving: Cannot listen on 127.0.0.1, port {port}: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--modeldir", "x"], "unknown argument '--modeldir'; did you mean '--model-dir'?"),
        (["serve", "--port", "http"], "invalid int value: 'http'"),
        (["train"], "'train'"),
        ([], "serve"),
    ],
)
def test_a_wrong_command_line_is_answered_with_one_sentence(arguments, sentence):
    ended = run_to_end(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_wrong_variables_are_answered_with_a_sentence_each():
    ended = run_to_end("serve", KENNEL_QUEUE_SIZE="many", KENNEL_MAX_BODY_BYTES="0")
    assert ended.returncode == 1
    assert "KENNEL_QUEUE_SIZE is 'many'" in ended.stderr
    assert "KENNEL_MAX_BODY_BYTES is '0'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_ends_in_an_example():
    ended = run_to_end("serve", "--help")
    assert ended.returncode == 0
    assert "example: python -m serving serve" in ended.stdout.strip().splitlines()[-1]
