"""Bodies and headers, without a server."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from serving import codec
from serving.errors import RequestError

ONE, TWO = base64.b64encode(b"one").decode(), base64.b64encode(b"two").decode()


def refused(status: int, code: str, action: object, *arguments: object) -> str:
    assert callable(action)
    with pytest.raises(RequestError) as caught:
        action(*arguments)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.sentence.endswith((".", "?")), "a refusal is a sentence"
    return caught.value.sentence


@pytest.mark.parametrize(
    ("body", "images", "listed"),
    [
        ({"instances": [{"b64": ONE}, {"b64": TWO}]}, (b"one", b"two"), True),
        ({"instances": [ONE]}, (b"one",), True),
        ([{"b64": ONE}, TWO], (b"one", b"two"), True),
        ({"image": ONE}, (b"one",), False),
        ({"image": f"{ONE[:2]}\n{ONE[2:]}\r\n"}, (b"one",), False),
    ],
)
def test_every_documented_json_shape_is_read_as_text_and_as_a_parsed_value(body, images, listed):
    assert codec.read_photos(json.dumps(body).encode(), "application/json") == codec.Photos(images, listed)
    assert codec.read_photos(body, "application/json") == codec.Photos(images, listed)


@pytest.mark.parametrize(
    ("body", "code", "hint"),
    [
        (b"{", "invalid_json", "not valid JSON"),
        (b"\xff\xfe\x00", "invalid_json", "not valid JSON"),
        (b"[" * 100_000, "invalid_json", "nested too deeply"),
        (b"1" * 5000, "invalid_json", "not valid JSON"),
        (b"7", "invalid_json", "a number, not a list"),
        (b'"text"', "invalid_json", "a string, not a list"),
        (b"[]", "invalid_json", "an empty list"),
        (b"{}", "invalid_json", "has no keys"),
        (b'{"instance": []}', "invalid_json", "Did you mean 'instances'?"),
        (b'{"image": "b25l", "instances": ["b25l"]}', "invalid_json", "'image', 'instances'"),
        (b'{"instances": {"b64": "b25l"}}', "invalid_json", "an object, not a list"),
        (b'{"instances": [{"b64": "b25l"}, 5]}', "invalid_json", "instances[1] is a number"),
        (b'{"instances": [null]}', "invalid_json", "instances[0] is null"),
        (b'{"instances": [{"base64": "b25l"}]}', "invalid_json", "instances[0] has 'base64'"),
        (b'{"instances": [{"b64": ["b25l"]}]}', "invalid_json", "instances[0] is a list"),
        (b'{"image": true}', "invalid_json", "'image' is a boolean"),
        (b'{"image": "!!!!"}', "invalid_base64", "'image' is not base64"),
        (b'{"image": "b25"}', "invalid_base64", "padding"),
        ('{"image": "bü=="}'.encode(), "invalid_base64", "'image' is not base64"),
        (b'{"image": ""}', "invalid_base64", "empty string"),
        (b"", "empty_body", "The body is empty"),
    ],
)
def test_a_wrong_json_body_is_refused_with_what_is_wrong_in_it(body, code, hint):
    assert hint in refused(400, code, codec.read_photos, body, "application/json")


def test_the_number_of_images_is_limited():
    assert len(codec.read_photos([ONE] * codec.MAX_IMAGES, "application/json").images) == codec.MAX_IMAGES
    sentence = refused(413, "too_many_images", codec.read_photos, [ONE] * (codec.MAX_IMAGES + 1), "application/json")
    assert str(codec.MAX_IMAGES + 1) in sentence


@pytest.mark.parametrize("given", ["image/jpeg", "IMAGE/PNG", "image/webp; q=1", "application/x-image", None, ""])
def test_image_types_are_taken_and_a_missing_type_is_looked_at(given):
    assert codec.media_type(given) != codec.JSON_TYPE


def test_json_may_name_its_charset():
    assert codec.media_type("application/json; charset=utf-8") == codec.JSON_TYPE


@pytest.mark.parametrize("given", ["text/plain", "image/gif", "application/x-www-form-urlencoded", "nonsense"])
def test_another_type_is_refused_with_a_list_of_those_taken(given):
    assert "image/jpeg" in refused(415, "unsupported_type", codec.media_type, given)


@pytest.mark.parametrize(
    "accept", [None, "", "*/*", "application/json", "text/html, application/*;q=0.5", "Application/JSON;q=1.0"]
)
def test_clients_that_take_json_are_answered(accept):
    codec.check_accept(accept)


@pytest.mark.parametrize("accept", ["text/csv", "application/json;q=0", "image/*, application/json; q=0.000"])
def test_clients_that_do_not_take_json_are_refused(accept):
    refused(406, "not_acceptable", codec.check_accept, accept)


@pytest.mark.parametrize(
    ("query", "attributes", "top_k"),
    [
        ({}, None, codec.DEFAULT_TOP_K),
        ({"top_k": "3"}, None, 3),
        ({"top_k": b"3"}, None, 3),
        ({}, "top_k=2", 2),
        ({}, "trace=abc; top_k=2", 2),
        ({}, "not_top_k=2", codec.DEFAULT_TOP_K),
        ({"top_k": "3"}, "top_k=2", 3),
    ],
)
def test_top_k_comes_from_the_query_then_the_custom_attributes(query, attributes, top_k):
    assert codec.read_options(query, attributes) == top_k


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "", "\u0661", "9" * 5000])
def test_top_k_must_be_a_whole_number_of_at_least_one(value):
    assert "top_k" in refused(400, "invalid_parameter", codec.read_options, {"top_k": value})


def test_an_unknown_query_parameter_is_refused_with_the_likely_name():
    assert "Did you mean 'top_k'?" in refused(400, "invalid_parameter", codec.read_options, {"topk": "3"})
    assert "'explode'" in refused(400, "invalid_parameter", codec.read_options, {"explode": "1"})


def test_compressed_bodies_are_refused():
    codec.check_encoding("identity")
    refused(415, "unsupported_encoding", codec.check_encoding, "gzip")


def test_json_keeps_every_bit_of_a_float32():
    [probability] = struct.unpack("f", struct.pack("f", 0.1234567))
    assert json.loads(codec.to_json([probability])) == [probability]
