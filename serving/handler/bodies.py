"""Request bodies to images, each still as its sender encoded it."""

from __future__ import annotations

import base64
import binascii
import difflib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.errors import RequestError
from serving.handler import media
from serving.settings import MAX_IMAGES

_SHAPES = 'Send {"instances": [{"b64": "<base64>"}, …]}, a list of such instances, or {"image": "<base64>"}.'
_LINES = 'Each line is {"image": "<base64>"}, {"b64": "<base64>"}, or the base64 string alone.'
_MAX_NPY_HEADER = 10_000  # characters; numpy's own limit for files that nobody vouches for

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photos:
    """The images of one request: encoded files, pixels of shape (H, W, 1, 3 or 4), or why one cannot be had."""

    images: tuple[bytes | Pixels | RequestError, ...]
    listed: bool  # the client sent a list, and gets one back even when it holds one image

    def name(self, index: int) -> str:
        """How a sentence refers to one of them."""
        return f"Image {index} of the list" if self.listed else "The image"


def read_photos(body: Any, content_type: str | None, *, max_images: int = MAX_IMAGES) -> Photos:
    """The images of a body.

    Args:
        body: bytes, or what a front made of a JSON body already (TorchServe parses it before the handler).
        content_type: the request's header.
        max_images: more images than this are refused.

    Raises:
        RequestError: 415 for the type; 400 for an empty body or one that is not what its type says; 413 for too many
            images. A single image of a list that cannot be had is in the list as its error.
    """
    kind = media.media_type(content_type)
    if isinstance(body, (bytes, bytearray)) and not body:
        raise RequestError(400, "empty_body", "The body is empty. Send an image, or JSON with base64 images.")
    if kind == media.JSON:
        photos = _read_json(body)
    elif not isinstance(body, (bytes, bytearray)):
        raise RequestError(400, "invalid_body", f"A body of type {kind} must be bytes.")
    elif kind == media.JSON_LINES:
        photos = _read_lines(bytes(body))
    elif kind == media.NPY:
        photos = _read_npy(bytes(body))
    elif kind == media.MULTIPART:
        photos = _read_form(bytes(body), content_type or "")
    else:
        photos = Photos((bytes(body),), listed=False)
    if len(photos.images) > max_images:
        raise RequestError(
            413,
            "too_many_images",
            f"{len(photos.images)} images are more than the limit of {max_images}. Send fewer at once.",
        )
    return photos


def _read_json(body: Any) -> Photos:
    value = _parse(body, "The body") if isinstance(body, (bytes, bytearray, str)) else body
    if isinstance(value, dict):
        _check_keys(value, ("image", "instances"), "The JSON object", _SHAPES)
    if isinstance(value, dict) and "image" in value:
        return Photos((_unpack(value["image"], "'image'"),), listed=False)
    instances = value["instances"] if isinstance(value, dict) else value
    if not isinstance(instances, list) or not instances:
        what = "an empty list" if instances == [] else _kind(instances)
        raise RequestError(400, "invalid_json", f"The images are {what}, not a list of one or more. {_SHAPES}")
    return Photos(tuple(_each(instances, lambda one, index: _instance(one, f"instances[{index}]"))), listed=True)


def _read_lines(body: bytes) -> Photos:
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines:
        raise RequestError(400, "empty_body", f"The body has no line. {_LINES}")
    return Photos(tuple(_each(lines, _line)), listed=True)


def _line(line: bytes, index: int) -> bytes:
    place = f"Line {index + 1}"
    value = _parse(line, place)
    if isinstance(value, dict):
        _check_keys(value, ("image", "b64"), place, _LINES)
        value = next(iter(value.values()))
    return _unpack(value, place)


def _each(values: Iterable[Any], read: Callable[[Any, int], bytes]) -> Iterable[bytes | RequestError]:
    for index, value in enumerate(values):
        try:
            yield read(value, index)
        except RequestError as error:
            yield error


def _parse(text: bytes | bytearray | str, place: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise RequestError(400, "invalid_json", f"{place} is nested too deeply. {_SHAPES}") from None
    except ValueError as error:  # wrong JSON, wrong UTF-8, a number of thousands of digits
        raise RequestError(400, "invalid_json", f"{place} is not valid JSON: {error}.") from None


def _check_keys(value: dict[str, Any], known: tuple[str, str], place: str, shapes: str) -> None:
    """Refuse an object that does not have exactly one of two keys."""
    if len(value) == 1 and next(iter(value)) in known:
        return
    keys = ", ".join(f"'{str(key)[:40]}'" for key in list(value)[:5]) or "no keys"
    close = [match for key in value for match in difflib.get_close_matches(str(key)[:40], known, n=1)]
    hint = f"Did you mean '{close[0]}'? " if close and close[0] not in value else ""
    raise RequestError(
        400, "invalid_json", f"{place} has {keys}; it must have '{known[1]}' or '{known[0]}'. {hint}{shapes}"
    )


def _instance(value: Any, place: str) -> bytes:
    if isinstance(value, dict):
        if list(value) != ["b64"]:
            keys = ", ".join(f"'{str(key)[:40]}'" for key in list(value)[:5]) or "no keys"
            raise RequestError(400, "invalid_json", f"{place} has {keys}; it must have the one key 'b64'.")
        value = value["b64"]
    return _unpack(value, place)


def _unpack(text: Any, place: str) -> bytes:
    if not isinstance(text, str):
        raise RequestError(400, "invalid_json", f"{place} is {_kind(text)}, not a base64 string. {_SHAPES}")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)  # base64(1) breaks its lines
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, "invalid_base64", f"{place} is not base64: {error}.") from None
    if not data:
        raise RequestError(400, "invalid_base64", f"{place} is an empty string. Put an encoded image there.")
    return data


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _read_npy(body: bytes) -> Photos:
    """An array of pixels: (H, W), (H, W, C) or a list of these, (N, H, W, C); nothing in the file is ever run."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        if version not in ((1, 0), (2, 0)):
            raise RequestError(400, "invalid_npy", f"The npy file is of version {version}; save it with numpy.save.")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_MAX_NPY_HEADER)  # type: ignore[call-arg, no-untyped-call]
    except RequestError:
        raise
    except Exception as error:  # numpy's reader ends in half a dozen types, tokenize.TokenError among them
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(400, "invalid_npy", f"The body is no npy file: {first[:200]}.") from None
    if dtype != np.uint8:
        what = "objects, which only pickle could read" if dtype.hasobject else str(dtype)[:80]
        raise RequestError(400, "invalid_npy", f"The array holds {what}; send uint8, 0 to 255.")
    if len(shape) not in (2, 3, 4) or 0 in shape or (len(shape) > 2 and shape[-1] not in (1, 3, 4)):
        raise RequestError(
            400, "invalid_npy", f"The array's shape is {shape}; send (H, W, C) or (N, H, W, C) with 1, 3 or 4 channels."
        )
    start, size = file.tell(), int(np.prod(shape, dtype=object))
    if len(body) - start != size:
        raise RequestError(400, "invalid_npy", f"The array {shape} has {size} bytes; {len(body) - start} were sent.")
    array = np.frombuffer(body, np.uint8, offset=start).reshape(shape, order="F" if fortran else "C")
    if len(shape) == 4:
        return Photos(tuple(array), listed=True)
    return Photos((array if len(shape) == 3 else array[:, :, None],), listed=False)


class _Form:
    """The parts of a multipart form, as the parser reads on."""

    def __init__(self) -> None:
        self.images: list[bytes] = []
        self.problem = ""
        self._header = ""
        self._value = b""
        self._headers: dict[str, bytes] = {}
        self._data = bytearray()
        self.ended = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self._data.extend(data[start:end]),
            "on_part_end": self._end_part,
            "on_header_field": self._field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._data = {}, bytearray()

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end].decode("latin-1").lower()

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header] = self._value
        self._header, self._value = "", b""

    def _end_part(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        if b"filename" in options:
            self.images.append(bytes(self._data))
        elif not self.problem:
            name = options.get(b"name", b"").decode("utf-8", "replace")[:40]
            self.problem = f"The form's field '{name}' is no file. Send files alone; options go into the query string."

    def _end(self) -> None:
        self.ended = True


def _read_form(body: bytes, content_type: str) -> Photos:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise RequestError(400, "invalid_form", "The Content-Type multipart/form-data names no boundary.")
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(400, "invalid_form", f"The multipart form is damaged: {error}.") from None
    if not form.ended:
        raise RequestError(400, "invalid_form", "The multipart form is cut off: its last boundary is missing.")
    if form.problem or not form.images:
        raise RequestError(400, "invalid_form", form.problem or "The multipart form holds no file.")
    return Photos(tuple(form.images), listed=True)
