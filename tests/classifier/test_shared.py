"""Trials that share what does not change learn what they would learn alone."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kennel.classifier.data.cache import ImageCache, cache_for
from kennel.classifier.data.folder import check_all
from kennel.classifier.network.precision import Precision
from kennel.classifier.training.shared import SharedFolder, checked_once, measured_once
from tests.classifier.test_features import extractor
from tests.classifier.test_train import Train, train  # noqa: F401 - train is a fixture
from tests.conftest import make_photos

HEAD = {
    "train_layers": "head", "arch": "squeezenet1_1", "precision": "fp32", "channels_last": "off", "debugger": "off",
    "epochs": "2", "lr": "0.02", "feature_views": "2",
}  # fmt: skip
WRITTEN = ("model/model.safetensors", "model/probes.safetensors", "output/data/test_predictions.jsonl")


def results(job: Path) -> dict[str, bytes]:
    return {name: (job / name).read_bytes() for name in WRITTEN}


def losses(job: Path) -> list[tuple[float, float]]:
    rows = [json.loads(line) for line in (job / "output/data/metrics.jsonl").read_text().splitlines()]
    return [(row["train_loss"], row["validation_loss"]) for row in rows]


def again(job: Path) -> Path:
    """The same job without what an earlier run left, its checkpoints included."""
    for name in WRITTEN:
        (job / name).unlink(missing_ok=True)
    (job / "output/data/metrics.jsonl").unlink(missing_ok=True)
    return job


def test_a_trial_on_shared_features_ends_with_the_bits_of_one_that_computes_them(train: Train, job: Path) -> None:  # noqa: F811
    found = {}
    for batch in ("5", "8"):
        status, output = train(again(job), **HEAD, batch_size=batch)
        assert status == 0, output
        assert "earlier trial" not in output
        found[batch] = results(job), losses(job)
    (job / "shared").mkdir()
    for number, batch in enumerate(("5", "8")):
        status, output = train(again(job), **HEAD, batch_size=batch)
        assert status == 0, output
        assert ("Features: as an earlier trial of this tuning job computed them" in output) == (number == 1)
        assert ("were checked by an earlier trial" in output) == (number == 1)
        alone, alone_losses = found[batch]
        assert results(job)["model/model.safetensors"] == alone["model/model.safetensors"]
        assert losses(job) == alone_losses
        assert_same_predictions(results(job), alone)


def assert_same_predictions(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Batches of another size may differ in the last bit."""
    lines = [
        [json.loads(line) for line in found["output/data/test_predictions.jsonl"].splitlines()]
        for found in (one, other)
    ]
    assert len(lines[0]) == len(lines[1]) > 0
    for first, second in zip(*lines, strict=True):
        assert {k: v for k, v in first.items() if not isinstance(v, (float, list, dict))} == {
            k: v for k, v in second.items() if not isinstance(v, (float, list, dict))
        }
        numbers = [[v for v in line.values() if isinstance(v, float)] for line in (first, second)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)


def test_a_result_of_other_weights_images_or_arithmetic_lies_elsewhere(tmp_path: Path) -> None:
    shared, places = SharedFolder(tmp_path), set()
    for seed, images in ((0, "a"), (1, "a"), (0, "b")):
        one = extractor("squeezenet1_1", tmp_path)
        torch.manual_seed(seed)
        nn.init.normal_(next(one._model.parameters()))
        places.add(shared.path("features", one.identity({"train": images})))
        places.add(shared.path("judged", one.identity({"train": images})))
    one._precision = Precision("bf16", False, "cpu", "as given")
    places.add(shared.path("features", one.identity({"train": "b"})))
    assert len(places) == 7
    assert shared.path("features", one.identity({"train": "b"})) in places


def test_decoded_images_are_shared_and_change_nothing(train: Train, job: Path) -> None:  # noqa: F811
    options = HEAD | {"train_layers": "all", "epochs": "1", "batch_size": "8"}
    assert train(again(job), **options)[0] == 0
    alone = results(job)["model/model.safetensors"]
    (job / "shared").mkdir()
    said = []
    for _ in range(2):
        status, output = train(again(job), **options)
        assert status == 0, output
        said.append(output)
        assert results(job)["model/model.safetensors"] == alone
    assert "shared with the other trials, 0 GB so far" in said[0]
    assert "shared with the other trials, 0 GB so far" not in said[1]


def _fill(place: Path, seed: int) -> None:
    cache = cache_for(50, "auto", 1, (place, 10_000_000))
    assert cache
    for image in np.random.default_rng(seed).permutation(50).tolist():
        cache.put(image, np.full((10, 20, 3), image, np.uint8))


def test_two_trials_at_once_keep_each_image_once(tmp_path: Path) -> None:
    place = tmp_path / "images"
    trials = [multiprocessing.get_context("fork").Process(target=_fill, args=(place, seed)) for seed in (1, 2)]
    for trial in trials:
        trial.start()
    for trial in trials:
        trial.join()
    cache = cache_for(50, "auto", 1, (place, 1))
    assert cache
    assert cache.used_bytes == 50 * 600
    for image in range(50):
        kept = cache.get(image)
        assert kept is not None
        assert kept.shape == (10, 20, 3)
        assert (kept == image).all()


def test_a_file_of_images_keeps_its_size_whoever_opens_it(tmp_path: Path) -> None:
    first = cache_for(4, "auto", 1, (tmp_path / "images", 10_000))
    size = (tmp_path / "images").stat().st_size
    second = cache_for(4, "auto", 1, (tmp_path / "images", 500))
    assert isinstance(first, ImageCache)
    assert isinstance(second, ImageCache)
    assert (tmp_path / "images").stat().st_size == size
    first.put(3, np.ones((50, 50, 3), np.uint8))
    assert second.get(3) is not None


def test_trials_that_want_the_same_at_once_compute_it_once(tmp_path: Path) -> None:
    shared, made = SharedFolder(tmp_path), []

    def compute() -> dict[str, torch.Tensor]:
        made.append(True)
        time.sleep(0.3)
        return {"x": torch.arange(5)}

    found: list[tuple[dict[str, torch.Tensor], bool]] = []
    place = shared.path("features", {"of": 1})
    threads = [threading.Thread(target=lambda: found.append(shared.once(place, compute))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(there for _, there in found) == [False, True, True]
    assert all(torch.equal(values["x"], torch.arange(5)) for values, _ in found)


def test_a_damaged_file_is_computed_anew(tmp_path: Path) -> None:
    shared = SharedFolder(tmp_path)
    place = shared.path("features", {"of": 1})
    assert shared.store(place, {"x": torch.ones(100)})
    place.write_bytes(place.read_bytes()[:90])
    values, there = shared.once(place, lambda: {"x": torch.zeros(3)})
    assert not there
    assert torch.equal(values["x"], torch.zeros(3))
    assert shared.once(place, dict)[1]


def test_nothing_is_kept_beyond_the_room(tmp_path: Path) -> None:
    shared = SharedFolder(tmp_path, most_bytes=1000)
    assert shared.store(shared.path("features", {"of": 1}), {"x": torch.zeros(100)})
    assert not shared.store(shared.path("features", {"of": 2}), {"x": torch.zeros(200)})
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_change_are_checked_again(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", images=2)
    (tmp_path / "shared").mkdir()
    paths, looked = sorted((tmp_path / "photos").rglob("*.jpg")), []

    def check(files: list[Path]) -> list[tuple[str, str | None]]:
        looked.append(len(files))
        return check_all(files, 0)

    checked = checked_once(SharedFolder(tmp_path / "shared"), check)
    first = checked(paths)
    assert checked(paths) == first == check_all(paths, 0)
    assert looked == [4]
    paths[0].write_bytes(b"no image any more")
    assert checked(paths)[0][1] is not None
    assert looked == [4, 4]


def test_a_measurement_is_taken_over_with_its_reason(tmp_path: Path) -> None:
    shared = SharedFolder(tmp_path)
    choices = [Precision("fp32", True, "cpu", "the fastest"), Precision("bf16", False, "cpu", "another day")]
    assert measured_once(shared, {"arch": "a"}, lambda: choices[0]) == choices[0]
    second = measured_once(shared, {"arch": "a"}, lambda: choices[1])
    assert (second.name, second.channels_last) == ("fp32", True)
    assert second.reason == "as an earlier trial of this tuning job: the fastest"
    assert measured_once(shared, {"arch": "b"}, lambda: choices[1]) == choices[1]
