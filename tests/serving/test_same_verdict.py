"""A folder of difficult files: data check, trainer and server say the same of each, and see the same pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from kennel.classifier.data.folder import ImageFolder, Sample, check_image
from kennel.classifier.data.images import decode, read_header
from kennel.classifier.data.loader import EvaluationImages, TrainingImages
from kennel.classifier.network.predictor import Predictor
from kennel.contract.errors import PhotoError
from kennel.driver.checks.datacheck import inspect
from tests.difficult import (
    broken_chunks,
    broken_exif,
    broken_segments,
    chunk,
    encode,
    picture,
    png,
    segment,
    tiff,
    trns,
    with_chunks,
    with_segments,
)
from tests.serving.serving_harness import NATIVE, same_ranking

FINE = ""


@dataclass(frozen=True)
class Difficult:
    """A file, part of the reason why it is refused, and a file with the same pixels."""

    data: bytes
    reason: str = FINE
    twin: bytes | None = None


def turned(data: bytes, number: int) -> bytes:
    """The picture as it is to be shown, without anything beside its pixels."""
    pixels = np.asarray(decode(read_header(data)))
    return encode(Image.fromarray(np.rot90(pixels, -1) if number == 6 else pixels), "PNG")


def difficult() -> dict[str, Difficult]:
    """The folder. What stands beside the pixels costs no photo; what is wrong with the pixels does."""
    plain_png, plain_jpeg, plain = encode(picture(), "PNG"), encode(picture(), "JPEG", quality=95), picture()
    files = {}
    for name, (note, number) in broken_exif().items():
        jpeg = with_segments(plain_jpeg, segment(0xE1, note))
        noted = with_chunks(plain_png, chunk(b"eXIf", note.removeprefix(b"Exif\0\0")))
        files[f"jpeg, exif: {name}"] = Difficult(jpeg, twin=turned(plain_jpeg, number))
        files[f"png, exif: {name}"] = Difficult(noted, twin=turned(plain_png, number))
    for name, body in broken_chunks().items():
        files[f"png: {name}"] = Difficult(with_chunks(plain_png, body), twin=plain_png)
        files[f"png, behind the pixels: {name}"] = Difficult(with_chunks(plain_png, body, at_end=True), twin=plain_png)
    for name, body in broken_segments().items():
        files[f"jpeg: {name}"] = Difficult(with_segments(plain_jpeg, body), twin=turned(plain_jpeg, 1))
    plain_tiff = tiff(plain.size, plain.tobytes(), 3, (700, 4, 1, b"abcd"), (0x8769, 4, 1, b"\xff\xff\xff\x7f"))
    files["tiff: xmp that is a number, no exif"] = Difficult(plain_tiff, twin=plain_png)
    return files | _refused(plain_png, plain_jpeg)


def _refused(plain_png: bytes, plain_jpeg: bytes) -> dict[str, Difficult]:
    colours = chunk(b"PLTE", bytes(6))
    webp = encode(picture(), "WEBP", lossless=True)
    files = {
        "empty": (b"", "not an image"),
        "text": (b"hello", "not an image"),
        "gif": (encode(picture(), "GIF"), "not an image"),
        "most of a jpeg": (plain_jpeg[: len(plain_jpeg) * 9 // 10], "damaged image"),
        "half a png": (plain_png[: len(plain_png) // 2], "damaged image"),
        "half a webp": (webp[: len(webp) // 2], "not"),
        "png header": (plain_png[:33], "not"),
        "png without pixels": (png(8, 2, []), "not"),
        "png with pixels that do not unpack": (plain_png.replace(plain_png[41:60], b"x" * 19), "damaged image"),
        "png of an unknown depth": (png(3, 2, [b"abcdef"]), "not"),
        "png whose key is cut": (png(8, 2, [b"abcdef"], chunk(b"tRNS", b"\0")), "not a readable image"),
        "png whose key has a wrong sum": (png(8, 0, [b"ab"], trns(1)[:-1] + b"\0"), "not"),
        "png with more alphas than anything": (png(8, 3, [b"\0\1"], colours, chunk(b"tRNS", b"\x80" * 999)), FINE),
        "png of a billion pixels": (encode(Image.new("1", (40_000, 30_000)), "PNG"), "more than the limit"),
        "jpeg marker": (b"\xff\xd8\xff", "not"),
        "jpeg, segment behind the end": (plain_jpeg[:2] + b"\xff\xe1\xff\xffExif", "not"),
        "tiff of fractions": (encode(Image.new("F", (4, 4)), "TIFF"), "32-bit float"),
        "tiff with pixels behind the end": (tiff((40, 40), b"abc", 3), "damaged image"),
        "tiff of no size": (tiff((0, 0), b"abc", 3), "not"),
    }
    return {name: Difficult(data, reason) for name, (data, reason) in files.items()}


FILES = difficult()


@pytest.fixture(scope="module")
def client(artifact: Path) -> Iterator[httpx.Client]:
    with NATIVE.serving(artifact, SAGEMAKER_MODEL_SERVER_WORKERS="1") as server:
        server.wait_until_ready()
        with server.client() as connected:
            yield connected
        assert not server.events("fault")
        assert server.end()[0] == 0  # libtiff writes its own complaints to stderr


@pytest.mark.parametrize("name", FILES)
def test_all_say_the_same(name: str, tmp_path: Path, client: httpx.Client, predictor: Predictor) -> None:
    file, path = FILES[name], tmp_path / "photo"
    path.write_bytes(file.data)
    answer = client.post("/invocations", content=file.data, headers={"Content-Type": "application/x-image"})
    digest, reason = check_image(path)
    photo = inspect(path)
    assert (photo.digest, photo.reason) == (digest, reason)
    folder = ImageFolder(tmp_path, ("a", "b"), (Sample(path, 0, digest),))
    readers = (
        EvaluationImages(folder, predictor.meta.preprocessing),
        TrainingImages(folder, predictor.meta.preprocessing, min_crop_area=1.0, seed=0),
    )
    if file.reason:
        assert reason is not None
        assert file.reason in reason
        assert answer.status_code == 400
        if file.data:
            assert answer.json()["code"] == "invalid_image"
            assert "was refused: " in answer.json()["error"]
        for reader, key in zip(readers, (0, (1, 0)), strict=True):
            with pytest.raises(PhotoError, match=str(path)):
                reader[key]  # type: ignore[index]
        return
    assert reason is None
    view, _ = readers[0][0]
    assert view.equal(predictor.tensor(file.data))
    ranking = [
        {"label": one.label, "class": one.class_name, "probability": one.probability}
        for one in predictor.top(predictor.probabilities(view[None])[0], 5)
    ]
    assert answer.status_code == 200
    assert same_ranking(answer.json()["predictions"], ranking, 1e-4)
    if file.twin is not None:
        assert view.equal(predictor.tensor(file.twin))
        other = tmp_path / "other"
        other.write_bytes(file.twin)
        twin = TrainingImages(
            ImageFolder(tmp_path, ("a", "b"), (Sample(other, 0, ""),)), predictor.meta.preprocessing,
            min_crop_area=1.0, seed=0,
        )  # fmt: skip
        assert readers[1][1, 0][0].equal(twin[1, 0][0])
