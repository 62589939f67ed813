"""A server as a batch transform job starts it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.serving.serving_harness import Front, b64, encoded, same_ranking, scene

LINES = {"Content-Type": "application/jsonlines", "Accept": "application/jsonlines"}


def test_each_line_has_its_answer_and_a_damaged_one_costs_no_other(front: Front, artifact: Path):
    environ = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "9",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "40",
    }
    with front.serving(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="2", **environ) as server:
        server.wait_until_ready()
        [start] = server.told("start")
        assert start["queue_size"] >= 40
        with server.client() as client:
            told = client.get("/execution-parameters").json()
            assert told == {"MaxConcurrentTransforms": 2, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 9}
            photos = [encoded(scene(seed), "PNG") for seed in range(3)]
            lines = [json.dumps({"image": b64(photos[number % 3])}) for number in range(18)]
            lines[7] = '{"image": "eA=="}'
            lines[8] = "{"
            body = "\n".join(lines).encode()
            assert len(body) > 7 * 1024 * 1024
            answer = client.post("/invocations", content=body, headers=LINES)
            assert answer.status_code == 200, answer.text
            found = [json.loads(line) for line in answer.text.splitlines()]
            assert len(found) == len(lines)
            assert [found[7]["code"], found[8]["code"]] == ["invalid_image", "invalid_json"]
            for number, one in enumerate(found):
                if number not in (7, 8):
                    assert same_ranking(one["predictions"], found[number % 3]["predictions"], 1e-5)
            too_large = client.post("/invocations", content=bytes(10 * 1024 * 1024), headers=LINES)
            assert too_large.status_code == 413
        assert server.end() == (0, "")
