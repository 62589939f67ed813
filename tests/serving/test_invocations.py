"""The routes over HTTP, on one real server that must survive everything that is sent here."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import socket
import statistics
import struct
import threading
import time
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from kennel.contract.paths import PAYLOAD_LIMIT_BYTES
from tests.serving.serving_harness import CLASSES, Boom, b64, encoded, npy, same_ranking, scene

TYPES = ("image/jpeg", "image/png", "application/json", "application/x-npy", "application/jsonlines")
JPEG, PNG, JSON, NPY, LINES = ({"Content-Type": name} for name in TYPES)
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def bomb() -> bytes:
    """A PNG of 60 kB whose header announces 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(60_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def predict(client, body, headers, **query):
    answer = client.post("/invocations", content=body, headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def expected(predictor, photo, k=5):
    probabilities = predictor.probabilities(predictor.tensor(photo)[None])[0]
    return [
        {"label": one.label, "class": one.class_name, "probability": one.probability}
        for one in predictor.top(probabilities, k)
    ]


def test_ping_is_200_with_an_empty_body_and_says_nothing_of_the_software(client):
    answer = client.get("/ping")
    assert (answer.status_code, answer.content) == (200, b"")
    assert "server" not in answer.headers


def test_served_predictions_equal_the_trainers_for_every_kind_of_photo(client, predictor, photos):
    for name, photo in photos.items():
        served = predict(client, photo, {"Content-Type": "application/octet-stream"})["predictions"]
        assert same_ranking(served, expected(predictor, photo), 1e-6), name


def test_served_predictions_equal_the_trainers_on_the_dog_photos(client, predictor):
    if not os.environ.get("KENNEL_TEST_DATA"):
        pytest.skip("KENNEL_TEST_DATA is not set: it names the folder with dogs/")
    photos = sorted((Path(os.environ["KENNEL_TEST_DATA"]) / "dogs").glob("*.jpg"))
    assert len(photos) == 7
    for photo in photos:
        served = predict(client, photo.read_bytes(), JPEG)["predictions"]
        assert same_ranking(served, expected(predictor, photo.read_bytes()), 1e-6), photo.name


def test_one_photo_as_jpeg_png_and_json_gets_equal_answers(client):
    # Small enough that the decoder has no reason to read the JPEG, and it alone, at half its size.
    jpeg = encoded(scene(21, 130, 120), "JPEG", quality=92)
    png = encoded(Image.open(io.BytesIO(jpeg)), "PNG")  # the JPEG's own pixels
    bodies = [
        (jpeg, JPEG),
        (png, PNG),
        (jpeg, {}),
        (jpeg, PNG),  # the bytes decide, not the label
        (json.dumps({"image": b64(jpeg)}).encode(), JSON),
    ]
    answers = [predict(client, body, headers) for body, headers in bodies]
    listed = predict(client, json.dumps({"instances": [{"b64": b64(jpeg)}]}).encode(), JSON)
    assert [len(listed["predictions"]), len(listed["predictions"][0])] == [1, 5]
    for answer in (*answers, {**listed, "predictions": listed["predictions"][0]}):
        assert same_ranking(answer["predictions"], answers[0]["predictions"], 1e-6)
        assert answer["model"] == answers[0]["model"]


def test_pixels_forms_and_lines_get_the_answers_of_the_encoded_photo(client):
    jpeg = encoded(scene(21, 130, 120), "JPEG", quality=92)
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)))
    wanted = predict(client, jpeg, JPEG)["predictions"]
    assert same_ranking(predict(client, npy(pixels), NPY)["predictions"], wanted, 1e-6)
    lists = [
        predict(client, npy(np.stack([pixels, pixels])), NPY)["predictions"],
        client.post("/invocations", files=[("a", ("1.jpg", jpeg)), ("b", ("2.jpg", jpeg))]).json()["predictions"],
    ]
    lines = client.post("/invocations", content=f'{{"image": "{b64(jpeg)}"}}\n"{b64(jpeg)}"\n', headers=LINES)
    assert lines.headers["Content-Type"] == "application/jsonlines"
    lists.append([json.loads(line)["predictions"] for line in lines.text.splitlines()])
    for found in lists:
        assert len(found) == 2
        assert all(same_ranking(ranking, wanted, 1e-5) for ranking in found)


def test_csv_holds_what_json_holds(client, photos):
    wanted = predict(client, photos["jpeg"], JPEG)["predictions"]
    answer = client.post("/invocations", content=photos["jpeg"], headers={**JPEG, "Accept": "text/csv"})
    assert answer.headers["Content-Type"].startswith("text/csv")
    [row] = csv.reader(io.StringIO(answer.text))
    assert row[0::2] == [one["class"] for one in wanted]
    assert [float(field) for field in row[1::2]] == [one["probability"] for one in wanted]


def test_a_refused_image_of_a_list_is_reported_in_its_place_on_request(client, photos):
    body = json.dumps([b64(photos["jpeg"]), "eA==", "%%", b64(photos["grey"])]).encode()
    found = predict(client, body, JSON, report_errors="true")["predictions"]
    assert [one["code"] for one in found[1:3]] == ["invalid_image", "invalid_base64"]
    assert same_ranking(found[3], predict(client, photos["grey"], {})["predictions"], 1e-5)


def test_a_heat_map_and_timings_come_on_request(client, photos):
    answer = predict(client, photos["jpeg"], {**JPEG, ATTRIBUTES: "explain=true"}, timings="1")
    png = base64.b64decode(answer["heat_map"])
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.size) == ("PNG", (64, 64))
    assert len(png) < 30_000
    assert set(answer["timings_ms"]) == {"queue", "decode", "forward", "explain"}
    assert all(0 <= value < 10_000 for value in answer["timings_ms"].values())
    assert set(predict(client, photos["jpeg"], JPEG)) == {"predictions", "model"}


def test_batch_transform_is_told_what_it_may_send(client):
    assert client.get("/execution-parameters").json() == {
        "MaxConcurrentTransforms": 2, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}  # fmt: skip


def test_prometheus_finds_counts_by_route_and_status(client, photos):
    def count(text: str) -> float:
        line = 'kennel_requests_total{route="/invocations",status="200"} '
        return next((float(one.removeprefix(line)) for one in text.splitlines() if one.startswith(line)), 0.0)

    before = count(client.get("/metrics").text)
    predict(client, photos["jpeg"], JPEG)
    client.get("/nothing/here")
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert count(answer.text) == before + 1
    assert "kennel_ready 1.0" in answer.text
    assert 'route="none",status="404"' in answer.text
    assert "process_resident_memory_bytes" in answer.text


def test_the_model_is_named_in_the_answer(client, predictor, photos):
    model = predict(client, photos["jpeg"], JPEG)["model"]
    assert model == {"arch": "resnet18", "weights_sha256": predictor.meta.weights_sha256[:12], "classes": len(CLASSES)}


def test_top_k_orders_by_probability_and_is_cut_at_the_number_of_classes(client, photos):
    everything = predict(client, photos["jpeg"], JPEG, top_k=1000)["predictions"]
    assert {one["class"] for one in everything} == set(CLASSES)
    assert sum(one["probability"] for one in everything) == pytest.approx(1, abs=1e-5)
    assert [one["probability"] for one in everything] == sorted((o["probability"] for o in everything), reverse=True)
    assert len(predict(client, photos["jpeg"], JPEG)["predictions"]) == 5
    assert predict(client, photos["jpeg"], JPEG, top_k=1)["predictions"] == everything[:1]
    attributes = {**JPEG, "X-Amzn-SageMaker-Custom-Attributes": "trace=1;top_k=2"}
    assert predict(client, photos["jpeg"], attributes)["predictions"] == everything[:2]


def test_a_list_is_answered_in_order_and_equals_its_singles(client, photos):
    body = json.dumps([b64(photo) for photo in photos.values()]).encode()
    together = predict(client, body, JSON)["predictions"]
    for ranking, (name, photo) in zip(together, photos.items(), strict=True):
        assert same_ranking(ranking, predict(client, photo, {})["predictions"], 1e-5), name


JPEG_BYTES = encoded(scene(1), "JPEG")
BAD = {
    "truncated JPEG": (JPEG_BYTES[: len(JPEG_BYTES) // 2], JPEG, 400, "invalid_image", "damaged image"),
    "text": (b"not an image at all", JPEG, 400, "invalid_image", "The image was refused: not a"),
    "empty": (b"", JPEG, 400, "empty_body", "empty"),
    "bomb": (bomb(), PNG, 400, "invalid_image", "50000x50000 pixels"),
    "wrong base64": (b'{"image": "%%%"}', JSON, 400, "invalid_base64", "'image' is not base64"),
    "broken JSON": (b'{"image": ', JSON, 400, "invalid_json", "not valid JSON"),
    "wrong JSON shape": (b'{"pictures": []}', JSON, 400, "invalid_json", "'pictures'"),
    "one bad of two": (
        json.dumps([b64(JPEG_BYTES), b64(b"text")]).encode(), JSON, 400, "invalid_image", "Image 1 of the list"),
    "too many": (json.dumps(["eA=="] * 65).encode(), JSON, 413, "too_many_images", "65"),
    "unsupported type": (b"a,b", {"Content-Type": "text/csv"}, 415, "unsupported_type", "'text/csv'"),
    "curl's default type": (
        JPEG_BYTES, {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_type", "image/jpeg"),
    "compressed": (JPEG_BYTES, {**JPEG, "Content-Encoding": "gzip"}, 415, "unsupported_encoding", "gzip"),
    "another answer type": (JPEG_BYTES, {**JPEG, "Accept": "text/html"}, 406, "not_acceptable", "application/json"),
    "pickle": (npy(np.array([Boom()], dtype=object), allow_pickle=True), NPY, 400, "invalid_npy", "only pickle"),
    "NaN": (npy(np.full((9, 9, 3), np.nan)), NPY, 400, "invalid_npy", "float64"),
    "wrong shape": (npy(np.zeros((3, 9, 9), np.uint8)), NPY, 400, "invalid_npy", "(3, 9, 9)"),
    "no form": (b"--", {"Content-Type": "multipart/form-data"}, 400, "invalid_form", "boundary"),
    "one bad line": (f'"{b64(JPEG_BYTES)}"\n"eA=="\n'.encode(), LINES, 400, "invalid_image", "Image 1 of the list"),
    "a heat map in CSV": (
        JPEG_BYTES, {**JPEG, "Accept": "text/csv", ATTRIBUTES: "explain=1"}, 406, "not_acceptable", "heat map"),
    "over the limit": (bytes(PAYLOAD_LIMIT_BYTES + 1), JPEG, 413, "body_too_large", str(PAYLOAD_LIMIT_BYTES)),
}  # fmt: skip


def assert_refused(answer, status, code, hint):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "code"}
    assert body["code"] == code
    assert hint in body["error"]
    assert "Traceback" not in answer.text
    assert 'File "' not in answer.text


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_its_status_and_a_sentence_and_the_server_lives_on(client, name):
    body, headers, status, code, hint = BAD[name]
    assert_refused(client.post("/invocations", content=body, headers=headers), status, code, hint)
    assert client.get("/ping").status_code == 200
    assert len(predict(client, JPEG_BYTES, JPEG)["predictions"]) == 5


def test_a_body_without_a_length_is_cut_off_at_the_limit(client):
    def endless():
        for _ in range(PAYLOAD_LIMIT_BYTES // 100_000 * 3):
            yield bytes(100_000)

    answer = client.post("/invocations", content=endless(), headers=JPEG)
    assert_refused(answer, 413, "body_too_large", str(PAYLOAD_LIMIT_BYTES))
    assert answer.headers["connection"] == "close"


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(server):
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {PAYLOAD_LIMIT_BYTES + 1}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sender:
        sender.sendall(f"{head}Content-Type: image/jpeg\r\nExpect: 100-continue\r\n\r\n".encode())
        assert sender.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_exactly_the_limit_is_read(client):
    padded = JPEG_BYTES + bytes(PAYLOAD_LIMIT_BYTES - len(JPEG_BYTES))  # decoders stop at the image's end
    assert len(predict(client, padded, JPEG)["predictions"]) == 5


def send_for_ever(sender, chunk):
    while True:
        sender.sendall(chunk)


def test_a_body_that_never_ends_costs_its_sender_the_connection(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sender:
        sender.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        start = time.monotonic()
        with pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
            send_for_ever(sender, chunk)
        assert time.monotonic() - start < 15


def test_an_unknown_query_parameter_is_refused(client):
    answer = client.post("/invocations", content=JPEG_BYTES, headers=JPEG, params={"topk": "2"})
    assert_refused(answer, 400, "invalid_parameter", "'top_k'")


def test_other_routes_and_methods_are_refused_as_json(client):
    assert_refused(client.get("/"), 404, "not_found", "/invocations")
    wrong = client.get("/invocations")
    assert_refused(wrong, 405, "method_not_allowed", "POST /invocations")
    assert wrong.headers["allow"] == "POST"


def test_every_request_is_one_line_in_the_log_with_its_id_and_sizes(server, client):
    attributes = {**JPEG, "X-Request-Id": "my-id-1", "X-Amzn-SageMaker-Custom-Attributes": "secret=42"}
    answer = client.post("/invocations", content=JPEG_BYTES, headers=attributes)
    assert answer.headers["x-request-id"] == "my-id-1"
    refused = client.post("/invocations", content=b"text", headers={**JPEG, "X-Request-Id": 'x"y'})
    server.wait_for(lambda: len(server.events("request")) and server.events("request")[-1]["status"] == 400, "the line")
    good, bad = (
        [line for line in server.events("request") if line["request_id"] == one.headers["x-request-id"]]
        for one in (answer, refused)
    )
    assert [len(good), len(bad)] == [1, 1]
    assert (
        good[0].items()
        >= {
            "method": "POST",
            "path": "/invocations",
            "status": 200,
            "bytes_in": len(JPEG_BYTES),
            "bytes_out": len(answer.content),
        }.items()
    )
    assert 0 < good[0]["ms"] < 60_000
    assert (bad[0]["status"], bad[0]["error"]) == (400, "invalid_image")
    assert bad[0]["request_id"] != 'x"y'
    assert not any("secret" in line for line in server.lines)


def test_start_up_is_logged_with_reasons(server, predictor):
    [start], [ready] = server.told("start"), server.told("ready")
    assert (start["workers"], start["workers_reason"]) == (2, "SAGEMAKER_MODEL_SERVER_WORKERS")
    assert ready["device"] == str(predictor.device)
    assert ready["model"]["arch"] == "resnet18"


def test_ping_stays_fast_while_all_workers_are_busy(server, client, slow_body):
    answers = []

    def work():
        with server.client() as own:
            answers.append(own.post("/invocations", content=slow_body, headers=JSON).status_code)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    seconds = []
    while any(thread.is_alive() for thread in threads):
        start = time.perf_counter()
        assert client.get("/ping").status_code == 200
        seconds.append(time.perf_counter() - start)
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert answers == [200] * 2
    assert len(seconds) > 20, "the workers were not busy for long enough to say anything"
    assert statistics.median(seconds) < 0.05
    assert max(seconds) < 2, "SageMaker gives each /ping two seconds"


def test_a_caller_that_sends_everything_before_it_reads_still_gets_the_refusal(server):
    """As HTTP/1.0-minded clients do: a reset connection would swallow the 413."""
    body = bytes(PAYLOAD_LIMIT_BYTES * 2)
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sender:
        sender.sendall(head.encode() + body)
        answer = b""
        while part := sender.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer


def test_many_clients_at_once_are_all_answered_alike(server, predictor, photos):
    wrong = []
    rankings = {name: expected(predictor, photos[name]) for name in ("jpeg", "grey", "palette")}

    def work(name):
        with server.client() as own:
            for _ in range(3):
                if not same_ranking(predict(own, photos[name], {})["predictions"], rankings[name], 1e-6):
                    wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in [*rankings] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_malformed_http_is_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sender:
        sender.sendall(b"NONSENSE\r\n\r\n")
        assert sender.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert httpx.get(f"http://127.0.0.1:{server.port}/ping", trust_env=False).status_code == 200
