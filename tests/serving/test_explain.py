"""Heat maps against Grad-CAM computed by hand, and against what a network really looks at."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from kennel.classifier.data.preprocess import Preprocessing, normalise
from kennel.classifier.network.artifact import Meta, save_artifact
from kennel.classifier.network.model import build
from kennel.classifier.network.predictor import Predictor
from serving.handler.explain import Explainer, ExplanationError
from tests.serving.serving_harness import encoded, scene


def predictor_of(arch: str, folder: Path) -> Predictor:
    torch.manual_seed(5)
    names = tuple("abcde")
    meta = Meta(arch, names, names, Preprocessing.for_arch(arch), {}, {}, {}, "test")
    save_artifact(folder, build(arch, len(names)).eval(), meta)
    return Predictor.load(folder)


def test_weights_are_those_of_the_formula(predictor):
    image = predictor.tensor(encoded(scene(3), "PNG"))
    model, target = predictor.model, 4
    body = nn.Sequential(*list(model.children())[:-2])
    features = body(normalise(image[None], predictor.meta.preprocessing)).detach().requires_grad_()
    score = model.fc(features.mean((2, 3)))[0, target]
    [gradient] = torch.autograd.grad(score, features)
    heat = torch.relu((gradient.mean((2, 3))[0, :, None, None] * features[0]).sum(0)).detach()
    found = Explainer(predictor).weights(image, target)
    assert found.shape == (2, 2)
    assert found.max() > 0
    assert torch.allclose(found, heat / heat.max(), rtol=1e-4, atol=1e-5)


def test_the_heat_lies_where_the_network_looks(tmp_path):
    """A network whose one class is brightness finds the bright corner."""
    lit = torch.zeros(3, 64, 64, dtype=torch.uint8)
    lit[:, :24, 40:] = 255
    torch.manual_seed(0)
    model = build("vgg11", 2).eval()
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            nn.init.zeros_(layer.bias)
    for layer in model.classifier:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.weight, 1e-3)
    meta = Meta("vgg11", ("a", "b"), ("a", "b"), Preprocessing(64, 64, (0, 0, 0), (1, 1, 1)), {}, {}, {}, "test")
    save_artifact(tmp_path / "model", model, meta)
    heat = Explainer(Predictor.load(tmp_path / "model")).weights(lit, 0)
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    assert row < heat.shape[0] / 2 <= column


@pytest.mark.parametrize("arch", ["densenet121", "swin_t", "squeezenet1_0", "mobilenet_v3_small"])
def test_networks_of_other_families_have_heat_maps(arch, tmp_path):
    predictor = predictor_of(arch, tmp_path / "model")
    image = predictor.tensor(encoded(scene(1), "PNG"))
    png = Image.open(io.BytesIO(Explainer(predictor).heat_map(image, 2)))
    assert png.size == (224, 224)
    assert len(png.convert("RGB").getcolors(100_000)) > 10


def test_a_network_of_tokens_is_refused(tmp_path):
    predictor = predictor_of("vit_b_32", tmp_path / "model")
    with pytest.raises(ExplanationError, match="vit_b_32 has no map of features"):
        Explainer(predictor).weights(torch.zeros(3, 224, 224, dtype=torch.uint8), 0)


def test_threads_do_not_mix_up_their_photos_and_predictions_stay_as_they_were(predictor):
    images = [predictor.tensor(encoded(scene(seed), "PNG")) for seed in range(6)]
    before = predictor.probabilities(torch.stack(images))
    alone = [Explainer(predictor).weights(image, 1) for image in images]
    explainer = Explainer(predictor)
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda image: explainer.weights(image, 1), images * 4))
    for found, wanted in zip(together, alone * 4, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.equal(predictor.probabilities(torch.stack(images)), before)
    assert all(parameter.grad is None for parameter in predictor.model.parameters())
