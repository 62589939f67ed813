"""What a request says it sends and wants, and the answer in that form."""

from __future__ import annotations

import csv
import io
import json
import struct

import pytest

from serving.errors import RequestError
from serving.handler import media
from serving.handler.answers import Answer, to_json
from serving.handler.media import CSV, JSON, JSON_LINES
from tests.serving.serving_harness import refused

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("given", ["image/jpeg", "IMAGE/PNG", "image/webp; q=1", "application/x-image", None, ""])
def test_image_types_are_taken_and_a_missing_type_is_looked_at(given):
    assert media.media_type(given) in (*media.IMAGE_TYPES, *media.SNIFFED_TYPES)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("application/json; charset=utf-8", JSON),
        ("application/jsonlines", JSON_LINES),
        ("application/x-ndjson", JSON_LINES),
        ("multipart/form-data; boundary=x", media.MULTIPART),
        ("application/x-npy", media.NPY),
    ],
)
def test_types_with_parameters_and_other_names_are_known(given, kind):
    assert media.media_type(given) == kind


@pytest.mark.parametrize("given", ["text/plain", "image/gif", "application/x-www-form-urlencoded", "nonsense"])
def test_another_type_is_refused_with_a_list_of_those_taken(given):
    assert "image/jpeg" in refused(415, "unsupported_type", media.media_type, given)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("Application/JSON;q=1.0", JSON),
        ("text/html, application/*;q=0.5", JSON),
        ("text/csv", CSV),
        ("text/*", CSV),
        ("application/jsonlines", JSON_LINES),
        ("application/x-ndjson", JSON_LINES),
        ("application/json;q=0.5, text/csv", CSV),
        ("application/json;q=0, */*;q=0.1", JSON_LINES),
    ],
)
def test_the_answer_has_the_type_that_accept_values_most(accept, kind):
    assert media.answer_type(accept, "image/jpeg") == kind


def test_lines_are_answered_by_lines_unless_something_else_is_asked_for():
    assert media.answer_type(None, JSON_LINES) == media.answer_type("*/*", JSON_LINES) == JSON_LINES
    assert media.answer_type("application/json", JSON_LINES) == JSON


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0", "image/*, application/json; q=0.000"])
def test_clients_that_take_none_of_the_types_are_refused(accept):
    assert "text/csv" in refused(406, "not_acceptable", media.answer_type, accept, "image/jpeg")


def test_compressed_bodies_are_refused():
    media.check_encoding("identity")
    refused(415, "unsupported_encoding", media.check_encoding, "gzip")


def test_json_keeps_every_bit_of_a_float32():
    [probability] = struct.unpack("f", struct.pack("f", 0.1234567))
    assert json.loads(to_json([probability])) == [probability]


RANKING = [
    {"label": "Brick", "class": "001.Brick", "probability": 0.75},
    {"label": "A, B", "class": '002.A, "B"', "probability": 0.25},
]
ANSWER = Answer([RANKING, RequestError(400, "invalid_image", "It is none.")], True, {"arch": "resnet18"})


def test_csv_has_one_line_an_image_that_any_reader_understands():
    rows = list(csv.reader(io.StringIO(ANSWER.to_bytes(CSV).decode())))
    assert rows == [["001.Brick", "0.75", '002.A, "B"', "0.25"], ["", "", "invalid_image"]]


def test_json_lines_has_one_object_an_image():
    lines = [json.loads(line) for line in ANSWER.to_bytes(JSON_LINES).splitlines()]
    assert lines[0] == {"predictions": RANKING, "model": {"arch": "resnet18"}}
    assert lines[1] == {"error": "It is none.", "code": "invalid_image"}


def test_json_lists_what_was_a_list_and_names_what_was_asked_for():
    body = json.loads(Answer([RANKING], False, {}, ["PNG"], {"decode": 1.5}).to_bytes(JSON))
    assert body == {"predictions": RANKING, "model": {}, "heat_map": "PNG", "timings_ms": {"decode": 1.5}}
    body = json.loads(Answer([RANKING], True, {}, ["PNG"]).to_bytes(JSON))
    assert body == {"predictions": [RANKING], "model": {}, "heat_maps": ["PNG"]}
