"""What a body holds, without a server."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from serving.errors import RequestError
from serving.handler.bodies import Photos, read_photos
from serving.settings import MAX_IMAGES
from tests.serving.serving_harness import Boom, npy, refused

pytestmark = pytest.mark.pure

ONE, TWO = base64.b64encode(b"one").decode(), base64.b64encode(b"two").decode()


def first_image(body: object, content_type: str) -> object:
    """The first image that cannot be had is raised, as the handler does by default."""
    for image in read_photos(body, content_type).images:
        if isinstance(image, RequestError):
            raise image
    return None


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
    assert read_photos(json.dumps(body).encode(), "application/json") == Photos(images, listed)
    assert read_photos(body, "application/json") == Photos(images, listed)


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
    assert hint in refused(400, code, first_image, body, "application/json")


def test_the_number_of_images_is_limited():
    assert len(read_photos([ONE] * MAX_IMAGES, "application/json").images) == MAX_IMAGES
    assert len(read_photos([ONE] * 100, "application/json", max_images=100).images) == 100
    sentence = refused(413, "too_many_images", read_photos, [ONE] * (MAX_IMAGES + 1), "application/json")
    assert str(MAX_IMAGES + 1) in sentence


def test_each_json_line_is_an_image_and_a_bad_one_leaves_the_others_alone():
    lines = f'{{"image": "{ONE}"}}\n\n{{"b64": "{TWO}"}}\r\n"{ONE}"\nnonsense\n{{"img": "{ONE}"}}\n'.encode()
    photos = read_photos(lines, "application/jsonlines")
    assert photos.listed
    assert photos.images[:3] == (b"one", b"two", b"one")
    assert [(error.status, error.sentence.split(" is ")[0]) for error in photos.images[3:4]] == [(400, "Line 4")]
    assert "Did you mean 'image'?" in photos.images[4].sentence
    assert "no line" in refused(400, "empty_body", read_photos, b"\n\n", "application/x-ndjson")


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 1), (4, 5, 4), (4, 5)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_array_is_one_picture(shape, order):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    photos = read_photos(npy(np.asarray(array, order=order)), "application/x-npy")
    assert not photos.listed
    np.testing.assert_array_equal(photos.images[0], array.reshape(4, 5, -1))


def test_an_npy_array_of_four_dimensions_is_a_list_of_pictures():
    array = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    photos = read_photos(npy(array), "application/x-npy")
    assert photos.listed
    np.testing.assert_array_equal(np.stack(photos.images), array)


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (npy(np.array([Boom()], dtype=object), allow_pickle=True), "only pickle could read"),
        (npy(np.zeros((4, 5, 3), dtype=np.float32)), "float32; send uint8"),
        (npy(np.full((4, 5, 3), np.nan)), "float64; send uint8"),
        (npy(np.zeros((4, 5, 2), dtype=np.uint8)), "shape is (4, 5, 2)"),
        (npy(np.zeros((3, 4, 5), dtype=np.uint8)), "shape is (3, 4, 5)"),
        (npy(np.zeros((0, 5, 3), dtype=np.uint8)), "shape is (0, 5, 3)"),
        (npy(np.zeros((4, 5, 3), dtype=np.uint8))[:-1], "has 60 bytes; 59 were sent"),
        (npy(np.zeros((4, 5, 3), dtype=np.uint8)) + b"x", "has 60 bytes; 61 were sent"),
        (npy(np.zeros((4, 5, 3), dtype=np.uint8)).replace(b"(4, 5, 3), }", b"(9**99999,)}"), "no npy file"),
        (npy(np.zeros((4, 5, 3), dtype=np.uint8)).replace(b"\x01\x00v", b"\x03\x00v"), "version (3, 0)"),
        (npy(np.zeros((4, 5, 3), dtype=np.uint8)).replace(b"(4, 5, 3)", b"(4L,((((3"), "no npy file"),
        (b"\x80\x04cos\nsystem\n", "no npy file"),
        (b"PK\x03\x04 an npz archive", "no npy file"),
        (b"\x93NUMPY", "no npy file"),
    ],
)
def test_what_is_no_array_of_pixels_is_refused_and_no_pickle_is_run(body, hint):
    assert hint in refused(400, "invalid_npy", read_photos, body, "application/x-npy")


def form(*parts: tuple[str, bytes], end: bytes = b"--edge--\r\n") -> bytes:
    lines = [
        f"--edge\r\nContent-Disposition: form-data; {name}\r\nContent-Type: image/png\r\n\r\n".encode() + data + b"\r\n"
        for name, data in parts
    ]
    return b"".join(lines) + end


FORM = "multipart/form-data; boundary=edge"


def test_the_files_of_a_form_are_a_list_of_images():
    body = form(('name="a"; filename="1.png"', b"one\r\n--edg"), ('name="b"; filename="2.png"', bytes(range(256))))
    assert read_photos(body, FORM) == Photos((b"one\r\n--edg", bytes(range(256))), listed=True)


@pytest.mark.parametrize(
    ("body", "content_type", "hint"),
    [
        (form(('name="a"; filename="1.png"', b"one")), "multipart/form-data", "names no boundary"),
        (form(('name="a"; filename="1.png"', b"one"), end=b""), FORM, "cut off"),
        (form(('name="top_k"', b"3")), FORM, "'top_k' is no file"),
        (b"--edge--\r\n", FORM, "holds no file"),
        (b"nonsense", FORM, "damaged"),
        (form(('name="a"; filename="1.png"', b"one")), "multipart/form-data; boundary=other", "damaged"),
    ],
)
def test_a_form_that_is_none_is_refused(body, content_type, hint):
    assert hint in refused(400, "invalid_form", read_photos, body, content_type)
