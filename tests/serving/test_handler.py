"""The handler class, called as TorchServe and multi-model-server call it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import pytest
import torch

from kennel.contract.errors import ArtifactError
from serving.handler.handler import FORWARD_IMAGES, Batch, ImageHandler
from tests.serving.serving_harness import CLASSES, b64, network, same_ranking, save


@dataclass
class TorchServeContext:
    """What ts.context.Context offers a handler, with its signatures."""

    model_dir: str
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: dict[int, tuple[int, str]] = field(default_factory=dict)
    types: dict[int, str] = field(default_factory=dict)

    @property
    def system_properties(self):
        return {"model_dir": self.model_dir, "gpu_id": None, "batch_size": 8, "server_name": "MMS"}

    def get_request_header(self, idx, key):
        return self.headers[idx].get(key)

    def set_response_content_type(self, idx, value):
        self.types[idx] = value

    def set_response_status(self, code=200, phrase="", idx=0):
        self.statuses[idx] = (code, phrase)


@pytest.fixture(scope="module")
def handler(artifact):
    loaded = ImageHandler()
    loaded.initialize(TorchServeContext(str(artifact)))
    return loaded


def test_a_batch_of_mixed_requests_is_answered_in_order_and_a_bad_one_harms_no_other(handler, artifact, photos):
    jpeg, png = photos["jpeg"], photos["grey"]
    json_type = {"Content-Type": "application/json"}
    context = TorchServeContext(
        str(artifact),
        [{"Content-Type": "image/jpeg"}, json_type, {"content-type": "text/csv"}, {"Content-Type": "image/png"}, {}],
    )
    rows = [
        {"body": bytearray(jpeg)},
        {"body": {"instances": [{"b64": b64(jpeg)}, {"b64": b64(png)}]}, "top_k": "2"},
        {"body": b"1,2,3"},
        {"body": jpeg[:2000]},
        {"data": png, "top_k": b"1"},
    ]
    answers = [json.loads(answer) for answer in handler.handle(rows, context)]
    codes = {
        0: (200, "OK"),
        1: (200, "OK"),
        2: (415, "Unsupported Media Type"),
        3: (400, "Bad Request"),
        4: (200, "OK"),
    }
    assert context.statuses == codes
    assert set(context.types.values()) == {"application/json"}
    assert [len(ranking) for ranking in answers[1]["predictions"]] == [2, 2]
    assert same_ranking(answers[0]["predictions"][:2], answers[1]["predictions"][0], 1e-5)
    assert same_ranking(answers[4]["predictions"], answers[1]["predictions"][1][:1], 1e-5)
    assert answers[2]["code"] == "unsupported_type"
    assert answers[3]["code"] == "invalid_image"


def test_a_batch_equals_its_singles(handler, photos):
    rows = [{"body": photo} for photo in list(photos.values()) * 2]
    batch = handler.preprocess(rows)
    assert len(batch.images) > 2 * FORWARD_IMAGES
    together = handler.inference(batch.images)
    alone = torch.cat([handler.inference(handler.preprocess([row]).images) for row in rows])
    assert torch.allclose(together, alone, rtol=0, atol=1e-5)
    assert together.std() > 0.05, "the photos must not all look the same to the network"


def test_an_empty_batch_has_no_answers(handler, artifact):
    assert handler.handle([], TorchServeContext(str(artifact))) == []
    assert handler.postprocess(torch.empty((0, len(CLASSES))), Batch(torch.empty(0), ())) == []


def test_it_says_so_when_it_was_not_initialised():
    with pytest.raises(RuntimeError, match="initialize"):
        ImageHandler().preprocess([{"body": b"x"}])


def test_weights_that_hold_nan_are_refused_at_load(tmp_path):
    model = network()
    with torch.no_grad():
        model.fc.bias.fill_(math.nan)
    context = TorchServeContext(str(save(tmp_path / "model", model)))
    with pytest.raises(ArtifactError, match="sum to nan"):
        ImageHandler().initialize(context)
