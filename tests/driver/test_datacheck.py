"""Each defect of a data set, made here, and found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kennel.classifier.data.folder import check_image
from kennel.driver.checks.datacheck import Report, check, inspect
from kennel.driver.checks.lookalikes import BITS, hash_of, near_pairs
from kennel.driver.errors import DriverError
from kennel.driver.session.reporting import Silent
from tests.conftest import make_photos
from tests.driver.conftest import Kennel


def look(folder: Path, **options: object) -> Report:
    return check(folder, Silent(), **options)  # type: ignore[arg-type]


def said(report: Report, level: str) -> str:
    return "\n".join(f"{f.subject}: {f.text}" for f in report.findings if f.level == level)


def scenery(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture of large soft shapes, as photos have them; noise alone has no look."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def test_a_sound_data_set_has_nothing_to_warn_of(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "validation")):
        for name in ("ants", "bees"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(12):
                scenery(10_000 * seed + 100 * number + (name == "ants")).save(tmp_path / part / name / f"{number}.png")
    report = look(tmp_path)
    assert report.is_usable
    assert said(report, "warn") == ""
    assert report.channels == {"train": {"ants": 12, "bees": 12}, "validation": {"ants": 12, "bees": 12}}


def test_truncated_and_foreign_files_are_named(photos: Path) -> None:
    whole = (photos / "red/000.jpg").read_bytes()
    (photos / "red/half.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "red/notes.txt").write_text("hello")
    (photos / "readme.md").write_text("hello")
    report = look(photos)
    assert report.is_usable  # bad_images=skip passes over them, and so does training
    assert "2 files cannot be used" in said(report, "warn")
    assert "red/half.jpg (damaged image" in said(report, "warn")
    assert "1 file outside the class folders, which training passes over: readme.md" in said(report, "warn")
    strict = look(photos, bad_images="fail")
    assert not strict.is_usable
    assert "Remove these files, or set bad_images=skip" in said(strict, "fail")


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda root: shutil.rmtree(root / "red"), "has a single class, blue"),
        (lambda root: [shutil.rmtree(path) for path in list(root.iterdir())], "has no class folders"),
        (lambda root: [path.unlink() for path in (root / "red").iterdir()], "has no readable image of class red"),
        (lambda root: [path.unlink() for path in sorted((root / "red").iterdir())[1:]], "a split needs two"),
        (lambda root: [(root / f"{n}.lst").write_text("") for n in "ab"], "has 2 image lists"),
    ],
)
def test_what_would_end_the_training_is_a_failure(photos: Path, break_it: object, sentence: str) -> None:
    break_it(photos)  # type: ignore[operator]
    report = look(photos)
    assert not report.is_usable
    assert sentence in said(report, "fail")


def test_classes_of_all_channels_must_agree(dataset: Path) -> None:
    (dataset / "valid/red").rename(dataset / "valid/Red")
    report = look(dataset)
    assert "did you mean 'red'?" in said(report, "fail")


def test_two_folders_for_one_channel_fail(dataset: Path) -> None:
    make_photos(dataset / "validation", images=2)
    assert "has two folders for validation" in said(look(dataset), "fail")


def test_copies_across_channels_are_found_though_encoded_anew(dataset: Path) -> None:
    for number in range(3):
        scenery(number).save(dataset / f"train/red/scene{number}.png")
    scenery(1).save(dataset / "valid/red/again.jpg", quality=60)
    scenery(2).resize((320, 240)).save(dataset / "test/red/larger.jpg")
    warned = said(look(dataset), "warn")
    assert "validation: 1 file that looks like one in train: train/red/scene1.png = validation/red/again.jpg" in warned
    assert "test: 1 file that looks like one in train: train/red/scene2.png = test/red/larger.jpg" in warned


def test_copies_inside_a_channel_are_named(photos: Path) -> None:
    shutil.copy(photos / "blue/000.jpg", photos / "red/copy.jpg")
    warned = said(look(photos), "warn")
    assert "train: 1 file with the same bytes as another: red/copy.jpg = blue/000.jpg" in warned


def test_an_even_picture_in_two_channels_is_found_by_its_bytes(dataset: Path) -> None:
    Image.new("RGB", (50, 50), "grey").save(dataset / "train/red/even.png")
    Image.new("RGB", (50, 50), "grey").save(dataset / "valid/red/even.png")
    Image.new("RGB", (50, 50), "black").save(dataset / "test/red/even.png")
    warned = said(look(dataset), "warn")
    assert "validation: 1 file that looks like one in train: train/red/even.png = validation/red/even.png" in warned
    assert "test: 1 file" not in warned


def test_odd_pixels_and_turned_photos_are_told(photos: Path) -> None:
    scenery(1).convert("CMYK").save(photos / "red/print.jpg")
    scenery(2).convert("RGBA").save(photos / "red/clear.png")
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(photos / "red/deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    scenery(3).save(photos / "red/turned.jpg", exif=exif)
    report = look(photos)
    warned = said(report, "warn")
    assert "mode CMYK (print colours" in warned
    assert "mode RGBA (transparency" in warned
    assert "mode I;16 (16 bits" in warned
    assert "1 file turned by EXIF: red/turned.jpg" in warned
    assert report.is_usable


def test_imbalance_and_small_classes_are_told(tmp_path: Path) -> None:
    make_photos(tmp_path, images=30)
    for path in sorted((tmp_path / "red").iterdir())[2:]:
        path.unlink()
    warned = said(look(tmp_path), "warn")
    assert "class blue has 30 images, red has 2" in warned
    assert "fewer than 10 images of red (2)" in warned


def test_the_verdict_on_a_file_is_the_trainers_own(photos: Path) -> None:
    (photos / "red/empty.jpg").write_bytes(b"")
    (photos / "red/half.jpg").write_bytes((photos / "red/000.jpg").read_bytes()[:500])
    (photos / "red/float.tif").write_bytes(b"")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(photos / "red/float.tif")
    for path in sorted(photos.rglob("*.*")):
        photo = inspect(path)
        assert (photo.digest, photo.reason) == check_image(path)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="is not a folder"):
        look(tmp_path / "nowhere")


def test_hashes_keep_a_photo_and_tell_two_apart() -> None:
    hashes = [hash_of(scenery(seed)) for seed in range(40)]
    assert all(found is not None for found in hashes)
    known = [found for found in hashes if found is not None]
    assert {(a, b) for a, b, _ in near_pairs(known, known)} == {(n, n) for n in range(40)}
    assert hash_of(Image.new("RGB", (50, 50), "grey")) is None
    assert known[0].nbytes * 8 == BITS


def test_the_command_says_whether_training_would_begin(kennel: Kennel, photos: Path) -> None:
    done = kennel("data", "check", photos, "--json")
    assert done.json["usable"]
    assert done.json["channels"] == {"train": {"blue": 6, "red": 6}}
    shutil.rmtree(photos / "red")
    failed = kennel("data", "check", photos)
    assert failed.code == 1
    assert "fail  train  " in failed.out
    assert failed.out.endswith("Training would fail.\n")


def test_the_command_needs_no_torch(kennel: Kennel, photos: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = None; from kennel.driver.__main__ import main; "
        f"sys.exit(main(['data', 'check', {str(photos)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=kennel.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_real_photos_have_their_one_known_stray(test_data: Path) -> None:
    report = look(test_data / "hymenoptera_data")
    assert report.is_usable
    assert report.channels["train"] == {"ants": 123, "bees": 121}
    assert said(report, "warn").startswith("train: 1 file cannot be used: ants/imageNotFound.gif (not an image")
    assert said(report, "warn").count("\n") == 0  # and no two photos of its halves look the same
