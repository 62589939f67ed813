import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from kennel.classifier.data.folder import read_label, read_labels, scan, split
from kennel.contract.errors import DataError
from tests.conftest import make_photos


def test_classes_are_folders_in_sorted_order(photos: Path) -> None:
    folder = scan(photos)
    assert folder.classes == ("blue", "red")
    assert folder.counts() == [6, 6]
    assert [folder.relative(s) for s in folder.samples[:2]] == ["blue/000.jpg", "blue/001.jpg"]


def test_images_may_lie_deeper_and_hidden_files_do_not_count(photos: Path) -> None:
    (photos / "red/more").mkdir()
    shutil.copy(photos / "red/000.jpg", photos / "red/more/x.JPG")
    (photos / "red/.DS_Store").write_bytes(b"junk")
    (photos / ".ipynb_checkpoints").mkdir()
    folder = scan(photos)
    assert folder.counts() == [6, 7]
    assert folder.bad == ()


def spoil(photos: Path) -> None:
    jpeg = (photos / "red/000.jpg").read_bytes()
    (photos / "red/truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (photos / "red/notes.txt").write_text("hello")
    (photos / "blue/empty.png").touch()
    Image.new("L", (9, 9)).save(photos / "blue/stray.gif")


def test_bad_files_are_listed_with_their_reasons_and_left_out(photos: Path) -> None:
    spoil(photos)
    folder = scan(photos)
    assert len(folder) == 12
    assert {bad.path.name for bad in folder.bad} == {"truncated.jpg", "notes.txt", "empty.png", "stray.gif"}
    assert all(bad.reason for bad in folder.bad)


def test_bad_files_can_stop_the_job(photos: Path) -> None:
    spoil(photos)
    with pytest.raises(DataError, match=r"4 unusable files: .*truncated\.jpg \(damaged.*bad_images=skip"):
        scan(photos, bad_images="fail")


def test_many_processes_see_what_one_sees(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "many", images=40)
    spoil(photos)
    assert scan(photos, workers=2) == scan(photos)


def test_a_channel_without_class_folders_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match=r"has no class folders \(it holds a\.jpg\)"):
        scan(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        scan(tmp_path / "nowhere")


def test_a_single_class_is_refused(photos: Path) -> None:
    shutil.rmtree(photos / "red")
    with pytest.raises(DataError, match="a single class, blue"):
        scan(photos)


def test_an_empty_class_is_refused_and_named(photos: Path) -> None:
    (photos / "green").mkdir()
    with pytest.raises(DataError, match="no readable image of class green"):
        scan(photos)


def test_class_lists_that_differ_name_what_is_missing_where(photos: Path) -> None:
    with pytest.raises(DataError, match=r"photos has a class that the training data does not have: 'red'\.") as caught:
        scan(photos, classes=("blue", "green", "grey"))
    assert "In turn it lacks green, grey." in str(caught.value)
    assert "training has blue, green, grey" in str(caught.value)


@pytest.mark.parametrize(
    ("here", "in_training"), [("1.cat", "1.Cat"), ("red ", "red"), ("Airedale_terier", "Airedale_terrier")]
)
def test_a_near_match_is_asked_for(photos: Path, here: str, in_training: str) -> None:
    (photos / "red").rename(photos / here)
    with pytest.raises(DataError, match=re.escape(f"'{here}' (did you mean '{in_training}'?)")):
        scan(photos, classes=("blue", in_training))


def test_a_name_that_is_like_no_other_gets_no_guess(photos: Path) -> None:
    with pytest.raises(DataError) as caught:
        scan(photos, classes=("amber", "blue"))
    assert "did you mean" not in str(caught.value)


def test_a_held_out_channel_may_lack_a_class_but_keeps_the_order(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = scan(photos, classes=("amber", "blue", "red"))
    assert folder.counts() == [0, 6, 6]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Channel photos has no readable image of 1 of the 3 classes: amber." in caplog.text


def test_equal_class_lists_give_no_warning(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    scan(photos, classes=scan(photos).classes)
    assert caplog.records == []


def test_classes_that_are_nearly_one_are_a_warning(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "blue").rename(photos / "Red ")
    assert scan(photos).classes == ("Red ", "red")
    assert "the classes 'Red ' and 'red' differ only in case" in caplog.text


def test_the_split_is_stratified_disjoint_and_reproducible(photos: Path) -> None:
    folder = scan(photos)
    kept, cut = split(folder, 0.33, seed=1)
    assert kept.counts() == [4, 4]
    assert cut.counts() == [2, 2]
    assert {s.path for s in kept.samples} | {s.path for s in cut.samples} == {s.path for s in folder.samples}
    assert split(folder, 0.33, seed=1) == (kept, cut)
    assert any(split(folder, 0.33, seed=seed)[1] != cut for seed in range(2, 6))


def test_a_class_of_one_image_cannot_be_split(photos: Path) -> None:
    for path in sorted((photos / "red").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="Class 'red' .* has 1 image; a split needs two"):
        split(scan(photos), 0.2, seed=0)


def test_a_split_passes_over_classes_that_have_no_images_here(photos: Path) -> None:
    kept, cut = split(scan(photos, classes=("amber", "blue", "red")), 0.33, seed=1)
    assert (kept.counts(), cut.counts()) == ([0, 4, 4], [0, 2, 2])


def test_the_fingerprint_follows_the_photos_not_their_place(photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    assert scan(copy).fingerprint() == scan(photos).fingerprint()
    shutil.copy(copy / "red/001.jpg", copy / "red/000.jpg")
    assert scan(copy).fingerprint() != scan(photos).fingerprint()


@pytest.mark.parametrize(
    ("name", "label"),
    [("001.Affenpinscher", "Affenpinscher"), ("037.Curly-coated_retriever", "Curly-coated retriever"),
     ("brick", "brick"), ("7", "7"), ("2012", "2012"), ("10_things", "things")],
)  # fmt: skip
def test_folder_names_become_readable(name: str, label: str) -> None:
    assert read_label(name) == label


def test_labels_that_would_read_the_same_keep_their_folder_names() -> None:
    assert read_labels(["1.cat", "2.cat"]) == ("1.cat", "2.cat")


def test_the_known_stray_in_hymenoptera_is_found(test_data: Path) -> None:
    folder = scan(test_data / "hymenoptera_data/train")
    assert folder.counts() == [123, 121]
    assert [bad.path.name for bad in folder.bad] == ["imageNotFound.gif"]
