import copy
import dataclasses
import time

import pytest
import torch
from torch import nn

from kennel.classifier.config import TrainConfig
from kennel.classifier.errors import ConfigError
from kennel.classifier.precision import Precision, choose, half_precisions, measure

CPU = torch.device("cpu")
Speeds = dict[tuple[str, bool], float]


def config(**changes: str) -> TrainConfig:
    return dataclasses.replace(TrainConfig(), **changes)  # type: ignore[arg-type]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip


def images() -> torch.Tensor:
    return torch.randn(4, 3, 16, 16)


def chosen(speeds: Speeds, *, available: tuple[str, ...] = ("bf16",), **changes: str) -> Precision:
    """The choice when the candidates have these speeds; a candidate that is not among them is an error."""

    def speeds_of(_model: nn.Module, _images: torch.Tensor, candidates: list[Precision]) -> list[float]:
        assert {(c.name, c.channels_last) for c in candidates} == speeds.keys()
        return [speeds[c.name, c.channels_last] for c in candidates]

    return choose(network(), images(), config(**changes), CPU, available=available, speeds_of=speeds_of)


def test_the_fastest_is_chosen_and_the_reason_has_the_numbers() -> None:
    found = chosen({("fp32", False): 100, ("fp32", True): 120, ("bf16", True): 150.4})
    assert (found.name, found.dtype, found.channels_last) == ("bf16", torch.bfloat16, True)
    assert str(found) == (
        "bf16, channels_last (the fastest; measured images/s: fp32 100, fp32+channels_last 120, bf16+channels_last 150)"
    )


def test_less_than_ten_percent_is_not_worth_a_change() -> None:
    found = chosen({("fp32", False): 100, ("fp32", True): 109, ("bf16", True): 80})
    assert (found.name, found.channels_last) == ("fp32", False)
    assert found.reason.startswith("no other is 10% faster")
    found = chosen({("fp32", False): 100, ("fp32", True): 111, ("bf16", True): 80})
    assert (found.name, found.channels_last) == ("fp32", True)


def test_only_what_was_left_open_is_measured() -> None:
    assert chosen({("bf16", False): 10, ("bf16", True): 20}, precision="bf16").channels_last
    assert chosen({("fp32", True): 10, ("bf16", True): 20}, channels_last="on").name == "bf16"
    assert not chosen({("fp32", False): 10, ("fp32", True): 5}, available=()).channels_last
    gpu_without_bf16 = {("fp32", False): 10.0, ("fp32", True): 12.0, ("fp16", True): 30.0}
    assert chosen(gpu_without_bf16, available=("fp16",)).name == "fp16"


@pytest.mark.parametrize("layout", ["on", "off"])
@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_what_was_asked_for_is_obeyed_without_measuring(name: str, layout: str) -> None:
    def never(*_: object) -> list[float]:
        raise AssertionError("measured")

    asked = config(precision=name, channels_last=layout)
    found = choose(network(), images(), asked, CPU, available=("bf16",), speeds_of=never)
    assert (found.name, found.channels_last, found.reason) == (name, layout == "on", "as given")


def test_a_precision_that_the_hardware_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="'bf16', but this cpu does not compute in it: .*AVX512-BF16.* Use auto"):
        choose(network(), images(), config(precision="bf16"), CPU, available=())
    with pytest.raises(ConfigError, match="'fp16', but this cpu .* needs a CUDA GPU"):
        choose(network(), images(), config(precision="fp16"), CPU)
    assert "fp16" not in half_precisions(CPU)


def test_measuring_leaves_no_trace() -> None:
    model = network()
    model[0].requires_grad_(False)
    model(images()).sum().backward()
    sample = images()
    before = copy.deepcopy(model.state_dict())
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    strides = {n: p.stride() for n, p in model.named_parameters()}
    kept, random_state = sample.clone(), torch.get_rng_state()
    choose(model, sample, config(), CPU, available=("bf16",))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(sample, kept)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {n: p.stride() for n, p in model.named_parameters()} == strides
    assert gradients.keys() == {n for n, p in model.named_parameters() if p.grad is not None}
    assert all(torch.equal(model.get_parameter(name).grad, old) for name, old in gradients.items())  # type: ignore[arg-type]
    assert model.training
    assert not model[0].weight.requires_grad


class SlowWithoutChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if not batch.is_contiguous(memory_format=torch.channels_last):
            time.sleep(0.05)
        if torch.is_autocast_enabled("cpu"):
            time.sleep(0.1)
        return self.linear(self.convolution(batch).mean((2, 3)))  # type: ignore[no-any-return]


def test_the_measurement_sees_what_is_slow() -> None:
    candidates = [Precision(n, layout, "cpu", "") for n, layout in (("fp32", False), ("fp32", True), ("bf16", True))]
    plain, layout, half = measure(SlowWithoutChannelsLast(), images(), candidates)
    assert layout > plain > half


def test_a_measurement_of_a_small_network_is_short() -> None:
    started = time.perf_counter()
    choose(network(), torch.randn(32, 3, 64, 64), config(), CPU, available=("bf16",))
    assert time.perf_counter() - started < 10  # 2 s on a machine of its own


def test_the_layout_changes_neither_weights_nor_images() -> None:
    model = network()
    before, sample = copy.deepcopy(model.state_dict()), images()
    precision = Precision("fp32", True, "cpu", "")
    assert precision.place(model) is model
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    arranged = precision.arrange(sample)
    assert arranged.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(arranged, sample)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_autocast_computes_in_the_chosen_type_and_keeps_the_weights() -> None:
    layer, inputs = nn.Linear(4, 2), torch.randn(3, 4)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Precision(name, False, "cpu", "").autocast():
            assert layer(inputs).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_only_fp16_scales_the_loss() -> None:
    for name in ("fp32", "bf16"):
        scaler = Precision(name, False, "cpu", "").scaler()
        assert not scaler.is_enabled()
        assert scaler.scale(torch.tensor(3.0)) == 3.0
    assert Precision("fp16", False, "cpu", "").scaler().is_enabled()


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@needs_gpu
def test_measuring_leaves_no_trace_on_a_gpu() -> None:
    device = torch.device("cuda")
    model = network().to(device)
    before, state = copy.deepcopy(model.state_dict()), torch.cuda.get_rng_state()
    found = choose(model, images(), config(), device)
    assert "measured images/s" in found.reason
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@needs_gpu
def test_fp16_trains_with_a_scaler_on_a_gpu() -> None:
    device = torch.device("cuda")
    precision = choose(network(), images(), config(precision="fp16", channels_last="on"), device, available=("fp16",))
    model, scaler = precision.place(network().to(device)), precision.scaler()
    with precision.autocast():
        loss = model(precision.arrange(images().to(device))).float().pow(2).mean()
    scaler.scale(loss).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
