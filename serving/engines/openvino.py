"""OpenVINO: the network compiled for a CPU, from torch at load or from what `serving pack` put beside the weights."""

from __future__ import annotations

import json
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kennel.classifier.data.preprocess import Preprocessing, normalise
from kennel.classifier.network.precision import half_precisions
from kennel.classifier.network.predictor import Predictor
from kennel.classifier.network.probes import read_probes
from kennel.contract.errors import ArtifactError
from kennel.contract.files import write_json
from serving import logs
from serving.engines.base import BOUNDS, Engine, EngineError, compare, demand

# The converter reports its use to its maker unless this module is missing, in which case it works without.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402

PACKED_FILE = "openvino.json"
_NETWORK_FILE, _WEIGHTS_FILE = "openvino.xml", "openvino.bin"
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # int8 is in the network itself; what is left stays exact


class _FromPixels(nn.Module):
    """The network with its normalisation, so that OpenVINO fuses the two."""

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(normalise(pixels, self.preprocessing))  # type: ignore[no-any-return]


def convert(predictor: Predictor) -> Any:
    """The network as an OpenVINO model: uint8 (N, 3, crop_px, crop_px) to logits (N, classes).

    Raises:
        EngineError: OpenVINO cannot convert this network.
    """
    network = _FromPixels(predictor.model, predictor.meta.preprocessing).eval()
    side = predictor.meta.preprocessing.crop_px
    pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    problem: Exception | None = None
    for way in (_by_tracing, _by_exporting):
        try:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch and the converter warn of each other's future
                return way(network, pixels)
        except Exception as error:  # the converter has no common type for what it cannot do
            problem = error
    first = (str(problem).splitlines() or [type(problem).__name__])[0]
    raise EngineError(f"OpenVINO cannot convert {predictor.meta.arch}: {first[:300]} Unset KENNEL_ENGINE.") from problem


def _by_tracing(network: nn.Module, pixels: torch.Tensor) -> Any:
    """Twice as fast as exporting; not possible where the fast path of attention hides the operations (ViT)."""
    shape = openvino.PartialShape([-1, *pixels.shape[1:]])
    try:
        return openvino.convert_model(network, example_input=pixels, input=[shape])
    finally:
        _forget_traces()


def _forget_traces() -> None:
    """Let go of the types that torch.jit registers for every module of a trace and never drops: 10 MB for each
    ResNet18, 80 MB for each ResNet152 that is loaded. As torch's own tests do it (`clear_class_registry`).
    """
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def _by_exporting(network: nn.Module, pixels: torch.Tensor) -> Any:
    images = torch.export.Dim("images", min=1, max=4096)
    model = openvino.convert_model(torch.export.export(network, (pixels,), dynamic_shapes=({0: images},)))
    model.reshape(openvino.PartialShape([-1, *pixels.shape[1:]]))
    return model


class OpenVino(Engine):
    """A compiled network; every thread has a request of its own, and each request computes on one thread."""

    def __init__(self, network: Any, precision: str, streams: int) -> None:
        self.name = f"openvino {precision}"
        self._compiled = openvino.Core().compile_model(
            network,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": streams,
                "NUM_STREAMS": streams,
                "ENABLE_CPU_PINNING": False,  # pinned threads of two containers would meet on the same cores
            },
        )
        self._own = threading.local()

    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Engine`."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        self._own.request.infer([batch.contiguous().numpy()], share_inputs=True)
        logits = torch.from_numpy(self._own.request.get_output_tensor(0).data.copy())
        return torch.softmax(logits, dim=1)


def choose_openvino(
    predictor: Predictor, folder: Path, precision: str, streams: int, reference: Engine
) -> tuple[Engine, str]:
    """OpenVINO in the precision that was asked for; `auto` is bf16 where the CPU has it and it agrees, else fp32.

    Returns:
        the engine, and why it.

    Raises:
        EngineError: OpenVINO cannot compute this network here, or does not agree with torch.
    """
    if predictor.device.type != "cpu":
        raise EngineError("KENNEL_ENGINE=openvino computes on CPUs, and this machine has a GPU. Unset KENNEL_ENGINE.")
    native = half_precisions(predictor.device)
    if precision == "bf16" and "bf16" not in native:
        raise EngineError("KENNEL_PRECISION=bf16, but this CPU has neither AVX512-BF16 nor AMX. Set fp32 or auto.")
    network, packed = read_packed(predictor, folder)
    if precision == "int8" and packed != "int8":
        raise EngineError(
            "KENNEL_PRECISION=int8 needs a network that was calibrated: python -m serving pack --precision int8 "
            f"--calibration FOLDER --model-dir {folder}."
        )
    if network is None or (packed == "int8") != (precision == "int8"):
        network = convert(predictor)
    if precision == "auto" and "bf16" in native and (probes := read_probes(folder)) is not None:
        half = OpenVino(network, "bf16", streams)
        found = compare(half, reference, probes)
        if not found.labels_changed and found.largest_difference <= BOUNDS["bf16"]:
            return half, f"{found.speed:.1f} times as fast as torch fp32; {found.sentence()}"
        logs.event("engine_refused", engine=half.name, reason=found.sentence(), bound=BOUNDS["bf16"])
    name = "fp32" if precision == "auto" else precision
    engine = OpenVino(network, name, streams)
    return engine, demand(engine, reference, folder, name)


def write_packed(predictor: Predictor, folder: Path, network: Any, precision: str, **facts: Any) -> None:
    """Put a converted network beside the weights; `openvino.json`, written last, says whose it is."""
    (folder / PACKED_FILE).unlink(missing_ok=True)
    openvino.save_model(network, folder / f"new-{_NETWORK_FILE}", compress_to_fp16=False)
    (folder / f"new-{_WEIGHTS_FILE}").replace(folder / _WEIGHTS_FILE)
    (folder / f"new-{_NETWORK_FILE}").replace(folder / _NETWORK_FILE)
    write_json(
        folder / PACKED_FILE,
        {
            "weights_sha256": predictor.meta.weights_sha256,
            "precision": precision,
            "openvino": openvino.__version__,
            **facts,
        },
    )


def read_packed(predictor: Predictor, folder: Path) -> tuple[Any, str]:
    """The network that `serving pack` left, and its precision; (None, "") when there is none for these weights.

    Raises:
        ArtifactError: it is damaged.
    """
    path = folder / PACKED_FILE
    if not path.exists():
        return None, ""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["weights_sha256"] != predictor.meta.weights_sha256:
            logs.event("packed_ignored", reason=f"{PACKED_FILE} belongs to other weights; pack again")
            return None, ""
        return openvino.Core().read_model(folder / _NETWORK_FILE), facts["precision"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{path} or what it names is damaged: {first[:300]}. Pack again, or delete it.") from error
