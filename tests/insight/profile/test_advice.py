"""What the report advises, and the numbers that it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from kennel.insight.profile.analysis import Analysis, analyse
from kennel.insight.profile.measures.loading import Loading
from kennel.insight.profile.reading import run, sources
from tests.insight.profile import samples


def analysed(folder: Path) -> Analysis:
    return analyse(run.read(sources.find(folder), "a run"))


def loading(*, load_ms: float, compute_ms: float, workers: int, cores: int = 4, cpu_ms: float = 0.0) -> Loading:
    step_s = (load_ms + compute_ms) / 1000 if workers == 0 else max(load_ms / workers, compute_ms) / 1000
    return Loading(
        step_s, max(0.0, step_s - compute_ms / 1000), compute_ms / 1000, load_ms / 1000, workers, 1, cores,
        measured=True, cpu_s=cpu_ms / 1000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("load_ms", "compute_ms", "best", "expected_ms"),
    [(300, 100, 3, 100), (250, 100, 3, 100), (50, 100, 1, 100), (2000, 100, 8, 250), (100, 0, 8, 12.5)],
    ids=["keeps up", "is rounded up", "one is enough", "as many as the cores bear", "nothing but loading"],
)
def test_as_many_loader_processes_as_keep_up_with_the_steps(
    load_ms: float, compute_ms: float, best: int, expected_ms: float
) -> None:
    found = loading(load_ms=load_ms, compute_ms=compute_ms, workers=0)
    assert found.best_workers() == best
    assert found.predicted_s(best) == pytest.approx(expected_ms / 1000)
    assert found.predicted_s(0) == pytest.approx(found.step_s)


def test_no_step_is_promised_to_take_less_than_its_cpu_time() -> None:
    found = loading(load_ms=300, compute_ms=50, workers=0, cpu_ms=140)
    assert found.predicted_s(8) == pytest.approx(0.14)
    assert found.best_workers() == 3  # more would not help


def test_a_run_that_waits_for_data_is_told_so_first(tmp_path: Path) -> None:
    parts = {**samples.STEP, "DataLoaderIter": 300}
    samples.described(tmp_path, num_workers=0, cpu_limit=4.0)
    samples.timeline(tmp_path, lambda _: parts, workers=0, load_ms=300)
    samples.system(
        tmp_path, {"CPUUtilization": samples.steady(10), "ContainerCPUUtilization": samples.steady(10)}, count=30
    )
    first = analysed(tmp_path).advice[0]
    assert (first.topic, first.change, first.rule) == ("data loading", "num_workers=4", "Dataloader")
    assert first.step_s == pytest.approx(0.388, abs=1e-5)
    assert first.expected_step_s == pytest.approx(0.088, abs=1e-5)
    assert first.saves_s == pytest.approx(40 * 0.3, rel=0.01)
    assert "Steps wait 300 of 388 ms for data" in first.reason


def test_a_run_that_waits_though_it_has_many_loaders_is_not_told_to_take_more(tmp_path: Path) -> None:
    parts = {**samples.STEP, "DataLoaderIter": 300}
    samples.described(tmp_path, num_workers=4, cpu_limit=2.0)
    samples.timeline(tmp_path, lambda _: parts, workers=4, load_ms=1552)
    first = analysed(tmp_path).advice[0]
    assert first.topic == "data loading"
    assert first.at_most
    assert "num_workers" not in first.change
    assert "More than 4 are not advised on 2 cores" in first.reason


def test_a_run_that_waits_for_nothing_gets_no_advice(tmp_path: Path) -> None:
    samples.described(tmp_path, num_workers=2, cpu_limit=2.0)
    samples.timeline(tmp_path, workers=2, load_ms=20)
    assert analysed(tmp_path).advice == []


def test_checkpoints_hooks_and_measuring_are_named_by_their_hyperparameters(tmp_path: Path) -> None:
    from kennel.classifier.profiler.timeline import TRAIN, Clock, Timeline

    writer, now = Timeline(tmp_path, "algo-1", clock=Clock(samples.BEGIN_S * 1_000_000, 0)), 0
    samples.described(tmp_path, precision="bf16, channels_last (faster)")
    writer.add("Initialization", now, now := 2_000 * samples.MS, {}, name="Precision")
    for step in range(20):
        about, begun = {"step_num": str(step), "mode": "TRAIN"}, now
        writer.add("Forward", now, now := now + 100 * samples.MS, about)
        writer.add("Debugger", begun, begun + 20 * samples.MS, {**about, "forward_us": 20_000, "backward_us": 0})
        writer.add(TRAIN, begun, now, about)
        writer.add("Checkpoint", now, now := now + 30 * samples.MS, {})
    writer.close()
    found = {one.topic: one for one in analysed(tmp_path).advice}
    assert found["initialisation"].change == "precision=bf16 channels_last=on"
    assert found["initialisation"].saves_s == pytest.approx(2.0)
    assert found["checkpoints"].change == "checkpoints=off"
    assert found["checkpoints"].saves_s == pytest.approx(0.6)
    assert found["debugger"].change == "debugger=off"
    assert found["debugger"].expected_step_s == pytest.approx(0.08)
    assert list(found) == ["initialisation", "checkpoints", "debugger"]  # by what they save


def test_a_full_machine_of_which_the_run_has_little_is_told(tmp_path: Path) -> None:
    samples.timeline(tmp_path)
    samples.system(
        tmp_path, {"CPUUtilization": samples.steady(99), "ContainerCPUUtilization": samples.steady(25)}, count=12
    )
    first = analysed(tmp_path).advice[0]
    assert first.topic == "neighbours"
    assert first.at_most
    assert "99 % busy, 25 % with this run" in first.reason


def test_a_gpu_that_idles_with_free_memory_gets_larger_batches(tmp_path: Path) -> None:
    """Simulated: no GPU."""
    samples.described(tmp_path, batch_size=32, num_workers=2, cpu_limit=8.0)
    samples.timeline(tmp_path, workers=2, load_ms=10)
    samples.system(
        tmp_path, {"GPUUtilization": samples.steady(35), "GPUMemoryUtilization": samples.steady(20)}, count=12
    )
    first = analysed(tmp_path).advice[0]
    assert first.change == "batch_size=128, and lr with it"
    assert first.at_most


def test_a_slow_step_says_what_it_was_doing(tmp_path: Path) -> None:
    def parts(step: int) -> dict[str, float]:
        return {**samples.STEP, "Backward(post-forward)": 900 if step == 17 else 50}

    samples.timeline(tmp_path, parts)
    samples.system(tmp_path, {"I/OWaitPercentage": lambda n: 90 if n in (5, 6) else 1}, count=12)
    [slow] = analysed(tmp_path).slow
    assert slow.step == 17
    assert next(iter(slow.excess_s)) == "backward"
    assert slow.excess_s["backward"] == pytest.approx(0.85, abs=1e-5)
    assert slow.note.startswith("I/O wait")


def test_cost_is_the_price_of_the_time_and_of_the_waiting(tmp_path: Path) -> None:
    parts = {**samples.STEP, "DataLoaderIter": 88}
    samples.timeline(tmp_path, lambda _: parts)
    analysis = analyse(run.read(sources.find(tmp_path), "a run"), usd_per_hour=3600.0)
    assert analysis.cost is not None
    assert analysis.summary is not None
    assert analysis.cost.usd == pytest.approx(analysis.summary.duration_s)
    assert analysis.cost.waiting_usd == pytest.approx(40 * 0.088, rel=0.01)
