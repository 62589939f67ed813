import json
from pathlib import Path

import pytest
import torch

from kennel.classifier.data.preprocess import Preprocessing, normalise
from kennel.classifier.network.artifact import META_FILE, WEIGHTS_FILE, Meta, load_artifact, read_meta, save_artifact
from kennel.classifier.network.model import build
from kennel.classifier.network.predictor import Predictor
from kennel.contract.errors import ArtifactError

pytestmark = pytest.mark.pure

META = Meta(
    arch="squeezenet1_1",
    classes=("001.ant", "002.bee", "003.cat"),
    labels=("ant", "bee", "cat"),
    preprocessing=Preprocessing(72, 64),
    hyperparameters={"epochs": 3},
    metrics={"validation_accuracy": 0.5},
    data={"train_images": 6},
    git_revision="abc",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_artifact(tmp_path / "model", build("squeezenet1_1", 3), META)
    return tmp_path / "model"


def test_an_artifact_is_rebuilt_from_itself_alone(tmp_path: Path) -> None:
    model = build("squeezenet1_1", 3).eval()
    written = save_artifact(tmp_path, model, META)
    loaded, meta = load_artifact(tmp_path)
    images = torch.randn(2, 3, 64, 64)
    assert meta == written
    assert sorted(path.name for path in tmp_path.iterdir()) == [META_FILE, WEIGHTS_FILE]
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)


def test_a_folder_without_meta_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(ArtifactError, match=r"holds no meta\.json \(found: weights\.pth\)"):
        read_meta(tmp_path)


def test_damaged_weights_are_noticed(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="has SHA-256"):
        load_artifact(folder)


def test_missing_weights_are_noticed(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(ArtifactError, match=r"Cannot read .*model\.safetensors: No such file"):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"schema_version": 99}, "schema version 99"), ({"classes": 1}, "damaged"), ({"surprise": 1}, "damaged")],
)
def test_a_meta_that_cannot_be_understood_is_refused(folder: Path, change: dict[str, int], sentence: str) -> None:
    path = folder / META_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=sentence):
        read_meta(folder)


def test_an_interrupted_save_leaves_no_folder_that_looks_whole(folder: Path) -> None:
    broken = build("squeezenet1_1", 3)
    broken.register_buffer("strange", torch.eye(2).to_sparse())  # safetensors has no such layout
    with pytest.raises(Exception, match="unsupported memory format"):
        save_artifact(folder, broken, META)
    with pytest.raises(ArtifactError, match="holds no meta"):
        load_artifact(folder)


def test_the_predictor_ranks_classes_and_sums_to_one(folder: Path) -> None:
    predictor = Predictor.load(folder, torch.device("cpu"))
    batch = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    rows = predictor.probabilities(batch)
    torch.testing.assert_close(rows.sum(1), torch.ones(2))
    torch.testing.assert_close(rows, predictor.model(normalise(batch, META.preprocessing)).softmax(1).detach())
    top = predictor.top(rows[0], 10)
    assert [p.probability for p in top] == sorted(rows[0].tolist(), reverse=True)
    assert {(p.class_name, p.label) for p in top} == set(zip(META.classes, META.labels, strict=True))
