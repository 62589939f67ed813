"""Head-only training on stored features is the training that it replaces."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kennel.classifier.data.loader import BalancedOrder, EpochBatches, Order
from kennel.classifier.data.preprocess import Preprocessing
from kennel.classifier.network.artifact import load_artifact
from kennel.classifier.network.model import build, freeze, head_parameters
from kennel.classifier.network.precision import Precision
from kennel.classifier.processes.distributed import ALONE
from kennel.classifier.processes.stop import StopSignal
from kennel.classifier.training import features
from kennel.classifier.training.checkpoints import CheckpointFolder
from kennel.classifier.training.features import Extractor, FeatureBatches, Head
from kennel.classifier.training.job import Job
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths
from tests.classifier.test_train import Train, train, train_alone  # noqa: F401 - train is a fixture

FP32 = Precision("fp32", False, "cpu", "as given")
HEAD = {
    "train_layers": "head",
    "precision": "fp32",
    "channels_last": "off",
    "debugger": "off",
    "profiler": "off",
    "batch_size": "10",
    "epochs": "3",
    "lr": "0.02",
    "ema_decay": "0.9",
}


def extractor(arch: str, base: Path, **values: int) -> Extractor:
    config = TrainConfig(arch=arch, train_layers="head", **values)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model, names = build(arch, 5), head_parameters(arch)
    freeze(model, "head", names)
    job = Job(config, ContainerPaths(base), Preprocessing(64, 64), torch.device("cpu"), StopSignal(), ALONE)
    return Extractor(job, model, Head(model, names), FP32)


def rows(job: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job / "output/data/metrics.jsonl").read_text().splitlines()]


def trained(job: Path) -> nn.Module:
    return load_artifact(job / "model")[0]


@pytest.mark.parametrize(  # both have dropout in their heads
    "arch", ["squeezenet1_1", pytest.param("mobilenet_v3_small", marks=pytest.mark.slow)]
)
def test_features_give_the_weights_that_recomputing_them_gives(train: Train, job: Path, arch: str) -> None:  # noqa: F811
    """With as many views as epochs every epoch has new ones, as when nothing is kept."""
    found = {}
    for views in ("0", "3"):
        status, output = train(job, **HEAD, arch=arch, feature_views=views)
        assert status == 0, output
        assert ("only the head works" in output) == (views == "3")
        found[views] = (trained(job).state_dict(), rows(job))
    for name, tensor in found["0"][0].items():
        torch.testing.assert_close(found["3"][0][name], tensor, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    for kept, anew in zip(found["3"][1], found["0"][1], strict=True):
        assert kept["validation_accuracy"] == anew["validation_accuracy"]
        assert kept["validation_loss"] == pytest.approx(anew["validation_loss"], abs=1e-4)
        assert kept["train_loss"] == pytest.approx(anew["train_loss"], abs=1e-4)


@pytest.mark.slow
def test_a_resumed_run_on_features_ends_with_the_same_bits(train: Train, job: Path) -> None:  # noqa: F811
    options = HEAD | {"arch": "mobilenet_v3_small", "feature_views": "2", "checkpoints": "on", "keep_checkpoints": "9"}
    assert train(job, **options)[0] == 0
    expected = (job / "model/model.safetensors").read_bytes()
    saved = sorted((job / "checkpoints").glob("*.pt"))
    assert len(saved) == 3
    state = CheckpointFolder(job / "checkpoints", keep=9).load()
    assert state is not None
    # From the dropout on; the frozen part is not saved each time.
    assert set(state["model"]) == {"classifier.3.weight", "classifier.3.bias"}
    for path in saved[1:]:
        path.unlink()
    status, output = train(job, **options)
    assert status == 0
    assert "Resumed at epoch 2" in output
    assert (job / "model/model.safetensors").read_bytes() == expected


def test_features_of_other_weights_resume_nothing(train: Train, job: Path) -> None:  # noqa: F811
    options = HEAD | {"arch": "squeezenet1_1", "checkpoints": "on", "epochs": "1"}
    weights = job / "input/data/pretrained"
    weights.mkdir()
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(build("squeezenet1_1", 3).state_dict(), weights / "w.pth")
        status, output = train(job, **options, pretrained="channel")
        assert status == seed - 1, output
    assert "The checkpoint was made with backbone=" in output


@pytest.mark.parametrize(
    ("arch", "start"),
    [
        ("resnet18", "fc"),
        ("mobilenet_v2", "classifier.0"),  # a dropout, which stays alive
        # from its first dropout on, over a layer that is frozen
        pytest.param("vgg11", "classifier.2", marks=pytest.mark.slow),
        ("convnext_tiny", "classifier.2"),
        ("squeezenet1_1", "classifier.0"),
        pytest.param("vit_b_16", "heads.head", marks=pytest.mark.slow),
        ("densenet121", "classifier"),
        ("efficientnet_b0", "classifier.0"),
    ],
)
def test_the_head_of_any_family_does_what_the_network_does(arch: str, start: str, tmp_path: Path) -> None:
    one = extractor(arch, tmp_path, **({"crop_px": 224} if arch == "vit_b_16" else {}))
    side = 224 if arch == "vit_b_16" else 64
    images = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8)
    assert one.is_exact(images)
    assert one._head.first is one._model.get_submodule(start)
    assert {name for name, p in one._head.named_parameters() if p.requires_grad} == head_parameters(arch)
    assert set(one._head.state_dict()) < set(one._model.state_dict())


def test_a_network_that_is_random_before_its_head_keeps_no_features(tmp_path: Path) -> None:
    against = extractor("googlenet", tmp_path).reason_against(10)  # its dropout is no part of a Sequential
    assert against == "googlenet is random in front of its head, or more than the head follows it"


def test_features_that_do_not_fit_into_memory_are_not_kept(tmp_path: Path) -> None:
    one = extractor("resnet18", tmp_path)
    assert one.reason_against(1_000) is None
    assert "they need" in (one.reason_against(10**12) or "")


def test_blends_of_images_keep_no_features() -> None:
    assert "blend images" in (features.reason_against(TrainConfig(mixup=0.2)) or "")
    assert features.reason_against(TrainConfig(feature_views=0)) == "feature_views=0"
    assert features.reason_against(TrainConfig()) is None


def test_views_take_turns_and_a_repeated_draw_shows_the_next_one() -> None:
    stored = torch.arange(12.0).reshape(3, 4)  # three views of four images: view * 4 + image
    plain = FeatureBatches(stored, torch.arange(4), EpochBatches(Order(4, 0), 4))
    for plain.steps.epoch in range(1, 8):
        values, targets = next(iter(plain))
        assert torch.equal(values, (plain.steps.epoch - 1) % 3 * 4 + targets.float())
    drawn = FeatureBatches(stored, torch.arange(4), EpochBatches(BalancedOrder([0, 0, 0, 1], 0), 4))
    values, targets = next(iter(drawn))
    repeated = values[targets == 3]
    assert len(repeated) > 1
    assert repeated.tolist() == [3.0, 7.0, 11.0, 3.0][: len(repeated)]


READER = """
import sys
from smdebug import modes
from smdebug.trials import create_trial
trial = create_trial(sys.argv[1])
names = set(trial.tensor_names())
assert {'CrossEntropyLoss_output_0', 'gradient/ResNet_fc.weight', 'ResNet_fc.weight'} <= names, names
assert not any('layer' in name for name in names), names
assert len(trial.tensor('CrossEntropyLoss_output_0').steps(mode=modes.TRAIN)) == 9
"""


@pytest.mark.slow
def test_the_debugger_sees_the_head_under_the_names_of_the_network(job: Path) -> None:
    train_alone(job, **HEAD | {"debugger": "auto"})  # 24 images, 10 a step, 3 epochs
    command = [sys.executable, "-c", READER, str(job / "output/data/tensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
