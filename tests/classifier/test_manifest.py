import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kennel.classifier.data.folder import scan
from kennel.contract.errors import DataError
from kennel.contract.manifest import parse_label

pytestmark = pytest.mark.pure


@pytest.fixture
def flat(photos: Path) -> Path:
    """A channel whose folders say nothing of the classes."""
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
        (photos / f"part{number % 2}").mkdir(exist_ok=True)
        path.rename(photos / f"part{number % 2}/{path.parent.name}{path.name}")
    for name in ("blue", "red"):
        (photos / name).rmdir()
    return photos


def images(channel: Path) -> list[Path]:
    return sorted(channel.rglob("*.jpg"))


def class_of(path: Path) -> str:
    return path.name[: -len("000.jpg")]


def write_manifest(channel: Path, prefix: str = "", **changes: Any) -> Path:
    lines = [
        {"source-ref": f"{prefix}{p.relative_to(channel).as_posix()}", "class": class_of(p), **changes}
        for p in images(channel)
    ]
    path = channel / "train.manifest"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("prefix", ["", "s3://bucket/", "s3://bucket/photos/2024/", "./"])
def test_a_manifest_gives_the_classes(flat: Path, prefix: str) -> None:
    write_manifest(flat, prefix)
    folder = scan(flat)
    assert folder.classes == ("blue", "red")
    assert folder.counts() == [6, 6]
    assert all(class_of(sample.path) == folder.classes[sample.target] for sample in folder.samples)


def test_ground_truth_metadata_names_the_class(flat: Path) -> None:
    lines = [
        {"source-ref": f"s3://b/{p.relative_to(flat)}", "job": int(class_of(p) == "red"),
         "job-metadata": {"class-name": class_of(p), "confidence": 0.9, "human-annotated": "yes"}}
        for p in images(flat)
    ]  # fmt: skip
    (flat / "output.manifest").write_text("\n".join(map(json.dumps, lines)))
    assert scan(flat).classes == ("blue", "red")


def test_an_mxnet_list_gives_the_classes(flat: Path) -> None:
    rows = [f"{i}\t{int(class_of(p) == 'red')}.000000\t{p.relative_to(flat)}" for i, p in enumerate(images(flat))]
    (flat / "train.lst").write_text("\r\n".join(rows) + "\r\n")
    folder = scan(flat)
    assert folder.classes == ("0", "1")
    assert {class_of(sample.path) for sample in folder.samples if sample.target == 1} == {"red"}


def test_a_line_without_its_file_is_an_unusable_image(flat: Path) -> None:
    write_manifest(flat, "s3://bucket/photos/")
    images(flat)[0].unlink()
    folder = scan(flat)
    assert len(folder) == 11
    assert [bad.reason for bad in folder.bad] == ["cannot be read: No such file or directory"]
    with pytest.raises(DataError, match="1 unusable files: part0/blue000.jpg"):
        scan(flat, bad_images="fail")


def test_a_source_never_leaves_the_channel(flat: Path) -> None:
    outside = flat.parent / "outside.jpg"
    shutil.copy(images(flat)[0], outside)
    manifest = write_manifest(flat)
    with manifest.open("a") as file:
        file.write(json.dumps({"source-ref": "../outside.jpg", "class": "red"}) + "\n")
    folder = scan(flat)
    assert len(folder) == 12
    assert all(flat in sample.path.parents for sample in folder.samples)
    assert [bad.path for bad in folder.bad] == [flat / "outside.jpg"]


def test_images_of_another_place_are_refused(flat: Path) -> None:
    manifest = write_manifest(flat)
    manifest.write_text(manifest.read_text().replace(".jpg", ".png"))
    with pytest.raises(DataError, match="has 12 lines, but no image of them is below .* first is 'part0/blue000.png'"):
        scan(flat)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "not JSON"),
        ("[1]", "no 'source-ref'"),
        ('{"source-ref": "a.jpg"}', r"0 attributes beside 'source-ref' \(none\)"),
        ('{"source-ref": "a.jpg", "x": 1, "y": 2}', r"2 attributes beside 'source-ref' \(x, y\); keep the one"),
        ('{"source-ref": "a.jpg", "x": [0, 1]}', "the label \\[0, 1\\] is not one class"),
        ('{"source-ref": "a.jpg", "x": 0.5}', "the label 0.5 is not one class"),
        ('{"source-ref": "a.jpg", "x": "../up"}', "cannot name a folder"),
        ('{"source-ref": "/", "x": "red"}', "'/' is no path of an image"),
        ('{"source-ref": "a\\u0000.jpg", "x": "red"}', "is no path of an image"),
        (json.dumps({"source-ref": "a" * 300, "x": "red"}), "is no path of an image"),
    ],
)
def test_lines_that_cannot_be_read_are_named(flat: Path, line: str, sentence: str) -> None:
    manifest = write_manifest(flat)
    with manifest.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=f"line 13: .*{sentence}"):
        scan(flat)


def test_many_bad_lines_are_counted(flat: Path) -> None:
    (flat / "a.lst").write_text("0 1 a.jpg\n" * 8)
    with pytest.raises(DataError, match="line 1: 1 fields between tabs.*line 5: .*And 3 more lines") as caught:
        scan(flat)
    assert "line 6" not in str(caught.value)


def test_an_image_of_two_classes_is_refused(flat: Path) -> None:
    manifest = write_manifest(flat)
    with manifest.open("a") as file:
        file.write(json.dumps({"source-ref": "part0/blue000.jpg", "class": "red"}))
    with pytest.raises(DataError, match="gives blue000.jpg two classes, blue and red"):
        scan(flat)


def test_two_lists_are_refused(flat: Path) -> None:
    write_manifest(flat)
    (flat / "b.lst").touch()
    with pytest.raises(DataError, match="2 image lists: b.lst, train.manifest. Leave one"):
        scan(flat)


def test_an_empty_list_is_refused(flat: Path) -> None:
    (flat / "a.lst").write_text("\n")
    with pytest.raises(DataError, match="a.lst has no lines"):
        scan(flat)


def test_the_fingerprint_follows_the_labels_of_a_list(flat: Path) -> None:
    manifest = write_manifest(flat)
    before = scan(flat).fingerprint()
    manifest.write_text(manifest.read_text().replace('"blue"', '"azure"'))  # the order of the images stays
    assert scan(flat).classes == ("azure", "red")
    assert scan(flat).fingerprint() != before


@pytest.mark.parametrize(
    ("text", "name"),
    [('"cat"', "cat"), ("cat", "cat"), ("7", "7"), ("7.0", "7"), ("007", "007"), ("true", "true"),
     ("Curly-coated retriever", "Curly-coated retriever"), ('{"class-name": "dog", "confidence": 0.9}', "dog"),
     ("猫", "猫")],
)  # fmt: skip
def test_labels_become_class_names(text: str, name: str) -> None:
    assert parse_label(text) == name


@pytest.mark.parametrize(
    "text", ["", " ", "null", "[1]", "NaN", "{}", '"a/b"', ".hidden", "..", '"a\\u0000b"', '"\\ud800"', "x" * 300,
             "[" * 4000],
)  # fmt: skip
def test_other_labels_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        parse_label(text)
