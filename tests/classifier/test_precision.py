import copy
import dataclasses
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from kennel.classifier.network.precision import Precision, Step, choose, half_precisions, measure, training_steps
from kennel.contract.errors import ConfigError
from kennel.contract.hyperparameters import TrainConfig

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


class Bench:
    """Steps whose time is given, in images/s or as a function of the number of images; keeps what was asked of it."""

    def __init__(self, *speeds: "float | Callable[[int], float]", memory: "dict[int, int] | None" = None) -> None:
        self.calls: list[tuple[int, int]] = []  # place of the candidate and number of images, in order
        self.elapsed_s = 0.0
        self.memory = memory or {}  # place of the candidate: images that fit into memory
        self.steps = [self._step(place, speed) for place, speed in enumerate(speeds)]

    def _step(self, place: int, speed: "float | Callable[[int], float]") -> Step:
        def step(batch: torch.Tensor) -> float:
            size = len(batch)
            self.calls.append((place, size))
            if size > self.memory.get(place, size):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            seconds = speed(size) if callable(speed) else size / speed
            self.elapsed_s += seconds
            return seconds

        return step

    def count(self, place: int) -> int:
        return sum(called == place for called, _ in self.calls)


def chosen(speeds: Speeds, *, available: tuple[str, ...] = ("bf16",), **changes: str) -> Precision:
    """The choice when the candidates have these speeds; a candidate that is not among them is an error."""

    def steps_of(_model: nn.Module, candidates: list[Precision]) -> list[Step]:
        assert {(c.name, c.channels_last) for c in candidates} == speeds.keys()
        return Bench(*(speeds[c.name, c.channels_last] for c in candidates)).steps

    return choose(network(), images(), config(**changes), CPU, available=available, steps_of=steps_of)


def chosen_on_gpu(bench: Bench, *, batch: int) -> Precision:
    """The choice between fp32, fp32+channels_last and bf16+channels_last of a GPU, for a batch of this size."""
    device, sample = torch.device("cuda"), torch.zeros(batch, 3, 4, 4)
    return choose(network(), sample, config(), device, available=("bf16",), steps_of=lambda _model, _open: bench.steps)


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
    def never(*_: object) -> list[Step]:
        raise AssertionError("measured")

    asked = config(precision=name, channels_last=layout)
    found = choose(network(), images(), asked, CPU, available=("bf16",), steps_of=never)
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
    plain, layout, half = measure(training_steps(SlowWithoutChannelsLast(), candidates), images())
    assert layout > plain > half


def test_a_measurement_of_a_small_network_is_short() -> None:
    started = time.perf_counter()
    choose(network(), torch.randn(32, 3, 64, 64), config(), CPU, available=("bf16",))
    assert time.perf_counter() - started < 10  # 2 s on a machine of its own


def test_short_steps_are_measured_with_more_images_and_in_turns() -> None:
    bench = Bench(100, 120, 150)
    assert measure(bench.steps, torch.zeros(64, 3, 4, 4)) == pytest.approx([100, 120, 150])
    few, turns = bench.calls[:6], bench.calls[6:]
    assert few == [(0, 2), (0, 2), (2, 2), (2, 2), (1, 2), (1, 2)]
    assert turns[:6] == [(0, 15), (1, 15), (2, 15)] * 2  # 15 images take the slowest 0.15 s
    assert bench.elapsed_s < 2.2


def test_slow_steps_are_two_for_each_candidate_with_two_images() -> None:
    bench = Bench(1, 1.2, 1.5)
    assert measure(bench.steps, torch.zeros(64, 3, 4, 4)) == pytest.approx([1, 1.2, 1.5])
    assert bench.calls == [(0, 2), (0, 2), (2, 2), (2, 2), (1, 2), (1, 2)]


def test_a_candidate_far_behind_is_dropped_after_its_first_step() -> None:
    bench = Bench(10, 11, 0.1)  # a half precision that is emulated: 20 s for two images
    speeds = measure(bench.steps, torch.zeros(64, 3, 4, 4))
    assert bench.count(2) == 1
    assert speeds[2] < speeds[0] < speeds[1]


def test_the_preparation_of_kernels_drops_nobody() -> None:
    prepared: set[int] = set()

    def slow_at_first(size: int) -> float:
        preparation_s = 0.0 if size in prepared else 0.4
        prepared.add(size)
        return preparation_s + size / 200

    assert measure(Bench(100, slow_at_first).steps, torch.zeros(64, 3, 4, 4)) == pytest.approx([100, 200])


def test_the_plain_one_too_is_dropped_where_it_is_far_behind() -> None:
    bench = Bench(10, 90, 100)
    measure(bench.steps, torch.zeros(64, 3, 4, 4))
    assert bench.count(0) == 2 < bench.count(1)


def test_the_time_is_looked_at_after_every_step() -> None:
    def crawls_with_many(size: int) -> float:  # as when other programs take the cores
        return size / 100 if size <= 2 else 5.0

    bench = Bench(crawls_with_many, crawls_with_many, crawls_with_many)
    assert measure(bench.steps, torch.zeros(64, 3, 4, 4)) == pytest.approx([100, 100, 100])
    assert len(bench.calls) == 6 + 1


def test_a_gpu_gets_the_whole_batch() -> None:
    bench = Bench(1000, 1200, 2000)
    assert chosen_on_gpu(bench, batch=64).name == "bf16"
    assert {size for _, size in bench.calls} == {64}


def test_half_precision_is_taken_where_the_plain_one_runs_out_of_memory() -> None:
    found = chosen_on_gpu(Bench(1000, 1000, 900, memory={0: 32, 1: 32}), batch=64)
    assert (found.name, found.channels_last) == ("bf16", True)
    assert found.reason == (
        "the fastest that fits into memory, as fp32 does not; "
        "measured images/s: fp32 out of memory, fp32+channels_last out of memory, bf16+channels_last 900"
    )


def test_what_runs_out_of_memory_is_not_taken_however_fast() -> None:
    bench = Bench(1000, 1050, 9000, memory={2: 32})
    found = chosen_on_gpu(bench, batch=64)
    assert (found.name, found.channels_last) == ("fp32", False)
    assert found.reason.endswith("fp32 1e+03, fp32+channels_last 1.05e+03, bf16+channels_last out of memory")
    assert bench.count(2) == 1


def test_fewer_images_are_measured_where_no_candidate_has_memory_for_all() -> None:
    bench = Bench(1000, 1200, 2000, memory={0: 16, 1: 16, 2: 17})
    found = chosen_on_gpu(bench, batch=64)
    assert (found.name, found.channels_last) == ("bf16", True)
    assert "measured images/s with 16 images, as 64 did not fit into memory: fp32 1e+03" in found.reason
    assert sorted({size for _, size in bench.calls}) == [16, 32, 64]


def test_the_plainest_is_left_where_not_even_two_images_fit() -> None:
    bench = Bench(1000, 1000, 1000, memory={0: 0, 1: 0, 2: 0})
    found = chosen_on_gpu(bench, batch=5)
    assert (found.name, found.channels_last) == ("fp32", False)
    assert found.reason == "not measured: not even 2 images fit into memory"
    assert [size for place, size in bench.calls if place == 0] == [5, 2]


def test_memory_that_is_too_small_for_a_copy_ends_no_training() -> None:
    def no_room(_model: nn.Module, _open: list[Precision]) -> list[Step]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    found = choose(network(), images(), config(), torch.device("cuda"), available=("bf16",), steps_of=no_room)
    assert (found.name, found.channels_last) == ("fp32", False)
    assert "not measured" in found.reason


class OutOfMemory(nn.Module):
    """Runs out of memory in fp32 on its way back, when gradients are half there."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        hidden = self.before(torch.dropout(batch.mean((2, 3)), 0.5, True))
        if not torch.is_autocast_enabled("cpu"):
            hidden.register_hook(self._fail)
        return self.after(hidden)  # type: ignore[no-any-return]

    def _fail(self, _gradient: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_step_that_runs_out_of_memory_leaves_no_gradients_and_no_trace() -> None:
    model, sample = OutOfMemory(), images()
    random_state = torch.get_rng_state()
    steps = training_steps(model, [Precision("fp32", False, "cpu", ""), Precision("bf16", False, "cpu", "")])
    assert steps[0].args[0] is steps[1].args[0]  # type: ignore[attr-defined]  # one layout: one copy
    with pytest.raises(torch.OutOfMemoryError):
        steps[0](sample)
    assert all(p.grad is None for p in steps[0].args[0].parameters())  # type: ignore[attr-defined]
    plain, half = measure(steps, sample)
    assert plain == 0 < half
    assert torch.equal(torch.get_rng_state(), random_state)


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
