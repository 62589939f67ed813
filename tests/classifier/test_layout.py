import shutil
from pathlib import Path

import pytest

from kennel.classifier.data.folder import read_labels, scan
from kennel.contract.errors import DataError
from kennel.contract.layout import nested_channels
from tests.conftest import make_photos

pytestmark = pytest.mark.pure


def make_download(root: Path, *names: str) -> Path:
    """A data set as people download it; classes are numbered as in the 133 dog breeds."""
    for seed, name in enumerate(names):
        photos = make_photos(root / name, images=2, seed=seed)
        (photos / "blue").rename(photos / "001.Affenpinscher")
        (photos / "red").rename(photos / "037.Curly-coated_retriever")
    return root


@pytest.mark.parametrize("held_out", ["valid", "val", "validation", "Valid"])
def test_a_download_is_three_channels(tmp_path: Path, held_out: str) -> None:
    root = make_download(tmp_path, "train", held_out, "test")
    (root / "README.txt").write_text("133 breeds")
    assert nested_channels(root) == {
        "train": root / "train", "validation": root / held_out, "test": root / "test",
    }  # fmt: skip


def test_a_download_may_lie_one_level_down(tmp_path: Path) -> None:
    make_download(tmp_path / "dogImages", "train", "valid", "test")
    (tmp_path / "__MACOSX").mkdir()
    found = nested_channels(tmp_path)
    assert set(found) == {"train", "validation", "test"}
    folder = scan(found["train"])
    assert read_labels(folder.classes) == ("Affenpinscher", "Curly-coated retriever")
    assert folder.counts() == [2, 2]


def test_a_channel_of_classes_is_left_alone(photos: Path, tmp_path: Path) -> None:
    assert nested_channels(photos) == {}
    assert nested_channels(tmp_path / "nowhere") == {}


def test_a_class_called_train_beside_another_class_is_a_class(photos: Path) -> None:
    for name in ("train", "test", "bus"):
        (photos / name / "city").mkdir(parents=True)
        shutil.copy(photos / "red/000.jpg", photos / name / "city/1.jpg")
    for name in ("blue", "red"):
        shutil.rmtree(photos / name)
    assert nested_channels(photos) == {}
    assert scan(photos).classes == ("bus", "test", "train")


def test_classes_called_train_and_test_that_hold_their_images_are_classes(photos: Path) -> None:
    (photos / "red").rename(photos / "train")
    (photos / "blue").rename(photos / "test")
    assert nested_channels(photos) == {}
    assert scan(photos).classes == ("test", "train")


@pytest.mark.parametrize("stray", ["train/labels.csv", "valid/Thumbs.db", "train/lost.jpg"])
def test_a_stray_file_does_not_turn_channels_into_classes(tmp_path: Path, stray: str) -> None:
    root = make_download(tmp_path, "train", "valid")
    (root / stray).write_bytes(b"x")
    assert set(nested_channels(root)) == {"train", "validation"}
    assert len(scan(root / "train").classes) == 2


def test_a_test_set_without_labels_is_said_and_no_class(tmp_path: Path) -> None:
    root = make_download(tmp_path, "train", "valid")
    make_photos(root / "photos", images=2)
    (root / "photos/red").rename(root / "test")
    shutil.rmtree(root / "photos")
    with pytest.raises(DataError, match="has no class folders"):
        scan(nested_channels(root)["test"])


def test_held_out_folders_without_train_are_no_layout(tmp_path: Path) -> None:
    assert nested_channels(make_download(tmp_path, "valid", "test")) == {}


def test_two_folders_for_one_channel_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two folders for validation: val and valid. Remove"):
        nested_channels(make_download(tmp_path, "train", "val", "valid"))
