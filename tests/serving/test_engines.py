"""Engines against torch in float32, on the probe images of an artifact."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from kennel.classifier.network.precision import half_precisions
from kennel.classifier.network.predictor import Predictor
from kennel.classifier.network.probes import FILE, read_probes, save_probes
from kennel.contract.errors import ArtifactError
from serving.engines.base import BOUNDS, EngineError, compare, demand
from serving.engines.choose import choose_engine
from serving.engines.openvino import OpenVino, convert, read_packed, write_packed
from serving.engines.torch_engine import TorchFloat32, TorchHalf
from serving.settings import ModelSettings
from tests.serving.serving_harness import ROOT, encoded, scene

NATIVE_BF16 = "bf16" in half_precisions(torch.device("cpu"))
needs_bf16 = pytest.mark.skipif(not NATIVE_BF16, reason="this CPU has neither AVX512-BF16 nor AMX")


@pytest.fixture(scope="module")
def probed(artifact: Path, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact with probe images, as training leaves it."""
    folder = tmp_path_factory.mktemp("probed") / "model"
    shutil.copytree(artifact, folder)
    save_probes(folder, torch.stack([predictor.tensor(encoded(scene(seed), "PNG")) for seed in range(8)]))
    return folder


class Off:
    """An engine that is a given amount off: what a broken conversion looks like."""

    name = "off by a little"

    def __init__(self, reference: TorchFloat32, amount: float) -> None:
        self.reference, self.amount = reference, amount

    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        return self.reference.probabilities(batch) + self.amount * torch.eye(7)[0]


def test_torch_in_float32_is_the_trainers_own_path(predictor, probed):
    engine = choose_engine(predictor, probed, ModelSettings(precision="fp32"))
    probes = read_probes(probed)
    assert engine.name == "torch fp32"
    assert torch.equal(engine.probabilities(probes), predictor.probabilities(probes))


def test_without_probe_images_nothing_but_float32_is_trusted(predictor, artifact):
    assert choose_engine(predictor, artifact, ModelSettings()).name == "torch fp32"
    with pytest.raises(EngineError, match="has no probe images, so openvino fp32 cannot be checked"):
        choose_engine(predictor, artifact, ModelSettings(engine="openvino", precision="fp32"))


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
def test_openvino_agrees_within_its_bound_in_every_thread_and_for_any_batch(predictor, probed, precision):
    engine = choose_engine(predictor, probed, ModelSettings(engine="openvino", precision=precision), streams=2)
    assert engine.name == f"openvino {precision}"
    probes = read_probes(probed)
    expected = predictor.probabilities(probes)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(engine.probabilities, [probes, probes[:1], probes[:3], probes] * 3))
    for answer in answers:
        assert answer.dtype == torch.float32
        assert torch.allclose(answer.sum(1), torch.ones(len(answer)), atol=1e-5)
        assert float((answer - expected[: len(answer)]).abs().max()) <= BOUNDS[precision]


@needs_bf16
def test_torch_in_bfloat16_agrees_within_its_bound(predictor, probed):
    engine = choose_engine(predictor, probed, ModelSettings(precision="bf16"))
    assert engine.name == "torch bf16"
    found = compare(engine, TorchFloat32(predictor), read_probes(probed))
    assert found.labels_changed == 0
    assert 0 < found.largest_difference <= BOUNDS["bf16"]


@pytest.mark.skipif(NATIVE_BF16, reason="this CPU has bfloat16")
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_precision_that_the_cpu_does_not_have_is_refused(predictor, probed, engine):
    with pytest.raises(EngineError, match="KENNEL_PRECISION=bf16, but"):
        choose_engine(predictor, probed, ModelSettings(engine=engine, precision="bf16"))


def test_an_engine_that_answers_differently_is_refused_loudly(predictor, probed):
    reference = TorchFloat32(predictor)
    demand(Off(reference, 0.0005), reference, probed, "fp32")
    with pytest.raises(EngineError, match=r"probabilities move by 0\.002 at most.*0\.001 is the bound"):
        demand(Off(reference, 0.002), reference, probed, "fp32")
    with pytest.raises(EngineError, match="of 8 probe images change their label"):
        demand(Off(reference, 2), reference, probed, "int8")
    with pytest.raises(EngineError, match="move by inf"):
        demand(Off(reference, float("nan")), reference, probed, "int8")


def test_auto_falls_back_to_float32_and_says_why(predictor, probed, monkeypatch):
    monkeypatch.setitem(BOUNDS, "bf16", 0.0)
    assert choose_engine(predictor, probed, ModelSettings()).name == "torch fp32"


def test_damaged_probe_images_are_named(probed, tmp_path):
    folder = shutil.copytree(probed, tmp_path / "model")
    (folder / FILE).write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"probes\.safetensors is damaged"):
        read_probes(folder)


def test_a_packed_network_is_used_only_for_the_weights_it_was_made_of(predictor, probed, tmp_path):
    folder = shutil.copytree(probed, tmp_path / "model")
    write_packed(predictor, folder, convert(predictor), "fp32")
    network, precision = read_packed(predictor, folder)
    assert precision == "fp32"
    engine = OpenVino(network, "fp32", 1)
    assert compare(engine, TorchFloat32(predictor), read_probes(folder)).largest_difference <= BOUNDS["fp32"]
    facts = (folder / "openvino.json").read_text()
    (folder / "openvino.json").write_text(facts.replace(predictor.meta.weights_sha256, "0" * 64))
    assert read_packed(predictor, folder) == (None, "")
    (folder / "openvino.json").write_text(facts)
    (folder / "openvino.xml").write_text("damaged")
    with pytest.raises(ArtifactError, match="Pack again"):
        read_packed(predictor, folder)


def test_openvino_reports_to_nobody():
    import openvino.tools.ovc.telemetry_utils as telemetry

    assert telemetry.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_int8_needs_a_calibrated_network(predictor, probed):
    with pytest.raises(EngineError, match="serving pack --precision int8"):
        choose_engine(predictor, probed, ModelSettings(engine="openvino", precision="int8"))


def test_a_half_precision_copy_leaves_the_network_alone(predictor):
    TorchHalf(predictor, "bf16")
    assert {parameter.dtype for parameter in predictor.model.parameters()} == {torch.float32}


GROWTH = """
import gc, sys
from pathlib import Path
from kennel.classifier.network.predictor import Predictor
from serving.engines.openvino import convert

def anonymous_kb():
    gc.collect()
    rows = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    return next(int(row[1]) for row in rows if row[0] == "Anonymous:")

predictor, taken = Predictor.load(Path(sys.argv[1])), []
for _ in range(8):
    convert(predictor)
    taken.append(anonymous_kb())
print(taken[-1] - taken[2])
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc/self/smaps_rollup")
def test_a_server_that_loads_model_after_model_does_not_grow(artifact):
    grown = subprocess.run(
        [sys.executable, "-c", GROWTH, str(artifact)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert int(grown.stdout) < 10_000, "kB; torch.jit keeps 10 MB of each trace unless it is told otherwise"
