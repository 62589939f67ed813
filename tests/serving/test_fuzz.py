"""Thousands of damaged requests: no 5xx, no dead worker, no growth in memory."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving.serving_harness import Front, Server, b64, encoded, npy, scene

# Behind the other front the same handler reads the bodies.
REQUESTS = {"native": 20_000, "mms": 4_000}
CLIENTS = 4
WARM = 1 / 4  # after this share of them, allocators have what they need
GROWTH = 1.1
EXPECTED = {200, 400, 406, 408, 413, 415}
SPECIAL = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\r\n--edge--",
    b'"',
    b"[" * 50,
    b"1e999",
    b"NaN",
)


def seeds() -> list[tuple[str, bytes]]:
    """Good requests of every kind, small enough that most of the time goes into damage."""
    photos = [scene(number, 160, 120) for number in range(3)]
    jpeg = encoded(photos[0], "JPEG", quality=80)
    lines = f'{{"image": "{b64(jpeg)}"}}\n"{b64(jpeg)}"\n'
    form = b'--edge\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n' + jpeg + b"\r\n--edge--\r\n"
    return [
        ("image/jpeg", jpeg),
        ("image/jpeg", encoded(photos[1].convert("CMYK"), "JPEG")),
        ("image/jpeg", encoded(photos[2], "JPEG", progressive=True)),
        ("image/png", encoded(photos[0], "PNG")),
        ("image/png", encoded(photos[1].convert("P"), "PNG")),
        ("image/png", encoded(photos[1].convert("RGBA"), "PNG")),
        ("image/webp", encoded(photos[2], "WEBP")),
        ("image/webp", encoded(photos[2], "WEBP", lossless=True)),
        ("image/tiff", encoded(photos[0].resize((60, 40)), "TIFF", compression="tiff_lzw")),
        ("image/bmp", encoded(photos[0].resize((60, 40)), "BMP")),
        ("application/x-npy", npy(np.asarray(photos[0].resize((60, 40))))),
        ("application/json", json.dumps({"instances": [{"b64": b64(jpeg)}, b64(jpeg)]}).encode()),
        ("application/json", json.dumps({"image": b64(jpeg)}).encode()),
        ("application/jsonlines", lines.encode()),
        ("multipart/form-data; boundary=edge", form),
    ]


def damage(body: bytes, chance: random.Random) -> bytes:
    """One to four changes, most of them near the start, where headers are."""
    data = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        if not data:
            break
        place = min(int(chance.expovariate(1 / max(1, len(data) / 6))), len(data) - 1)
        length = chance.choice((1, 1, 2, 8, 64))
        change = chance.randrange(7)
        if change == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif change == 1:
            data[place : place + length] = chance.randbytes(length)
        elif change == 2:
            del data[place : place + length]
        elif change == 3:
            data[place:place] = chance.choice(SPECIAL)
        elif change == 4:
            other = chance.randrange(len(data))
            data[place:place] = data[other : other + length]
        elif change == 5:
            data[place : place + 1] = chance.choice(SPECIAL)
        elif chance.random() < 0.3:
            del data[place:]
    return bytes(data)


def requests(number: int, count: int) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """So many damaged requests of one client, always the same ones."""
    chance, good = random.Random(number), seeds()  # noqa: S311 for tests
    for _ in range(count):
        kind, body = chance.choice(good)
        if chance.random() < 0.03:
            kind = chance.choice(good)[0]
        headers = {"Content-Type": kind}
        if chance.random() < 0.05:
            headers["Accept"] = chance.choice(("text/csv", "application/jsonlines", "image/png", "*/*;q=0.1", ";;,"))
        if chance.random() < 0.05:
            attributes = ("top_k=2", "explain=1", "timings=1;report_errors=1", "top_k=x")
            headers["X-Amzn-SageMaker-Custom-Attributes"] = chance.choice(attributes)
        yield kind, damage(body, chance), headers


def send(server: Server, number: int, count: int, progress: Callable[[], None]) -> Counter[int]:
    found: Counter[int] = Counter()
    with server.client() as client:
        for _, body, headers in requests(number, count):
            answer = client.post("/invocations", content=body, headers=headers)
            assert answer.status_code in EXPECTED, (answer.text, headers, body[:200], server.events("fault"))
            assert "Traceback" not in answer.text
            if answer.status_code != 200:
                assert set(answer.json()) == {"error", "code"}
            found[answer.status_code] += 1
            progress()
    return found


def resident_bytes(client: httpx.Client) -> float:
    """Memory of the process, as the server itself tells it."""
    found = re.search(r"^process_resident_memory_bytes (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_damaged_requests_harm_nobody(front: Front, artifact: Path):
    with front.serving(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="2") as server:
        server.wait_until_ready()
        with server.client() as client:
            send_all(server, client, REQUESTS[front.kind])
        assert server.end()[0] == 0  # libtiff writes its own complaints to stderr


def send_all(server: Server, client: httpx.Client, count: int) -> None:
    done, memory = itertools.count(1), {}

    def progress() -> None:
        if next(done) == count * WARM:
            with server.client() as own:
                memory["warm"] = resident_bytes(own)

    before = client.post("/invocations", content=seeds()[0][1], headers={"Content-Type": "image/jpeg"}).json()
    with ThreadPoolExecutor(CLIENTS) as threads:
        counts = sum(
            threads.map(lambda number: send(server, number, count // CLIENTS, progress), range(CLIENTS)), Counter()
        )
    assert counts.total() == count
    assert counts[200] > count * 0.05, f"nearly nothing was still an image: {counts}"
    assert counts[400] > count * 0.2, f"nearly nothing was damaged: {counts}"
    assert not server.events("fault")

    def has_settled() -> bool:
        """A damaged header can ask for a hundred megapixels: what the last ones took is given back, a leak is not."""
        answer = client.post("/invocations", content=seeds()[0][1], headers={"Content-Type": "image/jpeg"})
        assert answer.json() == before
        return resident_bytes(client) <= GROWTH * memory["warm"]

    server.wait_for(has_settled, f"a resident memory of at most {GROWTH} times {memory['warm']:.0f} bytes")
