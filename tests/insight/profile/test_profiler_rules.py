"""Each profiler rule with what makes it fire and what leaves it quiet.

What takes a GPU is simulated (see samples.py); what a CPU can show is shown by real runs in test_real_runs.py, and by
real samples beside a GPU that is made up in test_bottlenecks.py, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import smdebug_rulesconfig.profiler_rules.rules as awss

from kennel.insight.profile.analysis import Verdict, analyse
from kennel.insight.profile.reading import run, sources
from kennel.insight.profile.rules import RULES, RuleParameterError, build
from kennel.insight.profile.rules.base import ISSUES, NOT_APPLICABLE, QUIET, parameters
from tests.insight.profile import samples
from tests.insight.profile.samples import steady

Values = dict[str, Callable[[int], float]]
BUSY: Values = {
    "GPUUtilization": steady(95), "GPUMemoryUtilization": steady(80), "CPUUtilization": steady(60),
    "I/OWaitPercentage": steady(2),
}  # fmt: skip


def judged(folder: Path, rule: str, **values: object) -> Verdict:
    rules = build({name: str(value) for name, value in values.items()}, rule)
    [verdict] = analyse(run.read(sources.find(folder), "a run"), rules).verdicts
    return verdict


def with_samples(folder: Path, values: Values, *, count: int = 1600, gpus: tuple[str, ...] = ("gpu0",)) -> None:
    samples.system(folder, values, count=count, gpus=gpus)


def alternating(low: float, high: float, every: int = 10) -> Callable[[int], float]:
    return lambda number: low if number % every == 0 else high


GPU_CASES: dict[str, tuple[Values, Values]] = {  # rule -> what fires, what is quiet
    "BatchSize": ({**BUSY, "GPUUtilization": steady(40), "GPUMemoryUtilization": steady(15)}, BUSY),
    "CPUBottleneck": ({**BUSY, "GPUUtilization": steady(5), "CPUUtilization": steady(97)}, BUSY),
    "IOBottleneck": ({**BUSY, "GPUUtilization": steady(5), "I/OWaitPercentage": steady(70)}, BUSY),
    "LowGPUUtilization": ({**BUSY, "GPUUtilization": steady(30)}, BUSY),
    "GPUMemoryIncrease": ({**BUSY, "GPUMemoryUtilization": lambda number: 30 if number < 1300 else 45}, BUSY),
}


@pytest.mark.parametrize("rule", GPU_CASES)
def test_a_rule_about_gpus_fires(tmp_path: Path, rule: str) -> None:
    with_samples(tmp_path, GPU_CASES[rule][0])
    verdict = judged(tmp_path, rule)
    assert verdict.outcome.status == ISSUES, verdict.outcome.text
    assert verdict.outcome.triggered >= 1
    assert verdict.outcome.datapoints > 0


@pytest.mark.parametrize("rule", GPU_CASES)
def test_a_rule_about_gpus_is_quiet(tmp_path: Path, rule: str) -> None:
    with_samples(tmp_path, GPU_CASES[rule][1])
    assert judged(tmp_path, rule).outcome.status == QUIET


@pytest.mark.parametrize("rule", GPU_CASES)
def test_a_rule_about_gpus_does_not_apply_without_one(tmp_path: Path, rule: str) -> None:
    with_samples(tmp_path, {"CPUUtilization": steady(99)})
    outcome = judged(tmp_path, rule).outcome
    assert (outcome.status, outcome.triggered) == (NOT_APPLICABLE, 0)


@pytest.mark.parametrize("rule", GPU_CASES)
def test_a_rule_about_gpus_waits_for_its_patience(tmp_path: Path, rule: str) -> None:
    with_samples(tmp_path, GPU_CASES[rule][0], count=900)
    assert judged(tmp_path, rule).outcome.status == NOT_APPLICABLE
    if rule != "GPUMemoryIncrease":  # whose leap is later
        assert judged(tmp_path, rule, patience=100).outcome.status == ISSUES


def test_a_gpu_that_works_by_fits_and_starts_is_told_from_one_that_works_little(tmp_path: Path) -> None:
    with_samples(tmp_path, {**BUSY, "GPUUtilization": alternating(0, 95)})
    details = judged(tmp_path, "LowGPUUtilization").outcome.details
    assert details["fluctuating"] > 0
    assert details["low"] == 0


def test_memory_that_creeps_is_no_leap(tmp_path: Path) -> None:
    with_samples(tmp_path, {**BUSY, "GPUMemoryUtilization": lambda number: 30 + number / 100})
    assert judged(tmp_path, "GPUMemoryIncrease").outcome.status == QUIET


def test_two_gpus_that_work_differently_are_out_of_balance(tmp_path: Path) -> None:
    two: Values = {"GPUUtilization gpu0": steady(95), "GPUUtilization gpu1": steady(20)}
    with_samples(tmp_path, two, gpus=("gpu0", "gpu1"))
    verdict = judged(tmp_path, "LoadBalancing")
    assert verdict.outcome.status == ISSUES
    assert verdict.outcome.details["distance"] == pytest.approx(1.0)


def test_two_gpus_that_work_alike_are_in_balance(tmp_path: Path) -> None:
    with_samples(tmp_path, BUSY, gpus=("gpu0", "gpu1"))
    assert judged(tmp_path, "LoadBalancing").outcome.status == QUIET


def test_one_gpu_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    with_samples(tmp_path, BUSY)
    assert judged(tmp_path, "LoadBalancing").outcome.status == NOT_APPLICABLE


def starving(_: int) -> dict[str, float]:
    return {**samples.STEP, "DataLoaderIter": 200}


def test_training_processes_of_which_one_starves_are_out_of_balance(tmp_path: Path) -> None:
    samples.timeline(tmp_path, steps=120)
    samples.timeline(tmp_path, starving, steps=120, node="algo-2")
    verdict = judged(tmp_path, "LoadBalancing")
    assert verdict.outcome.status == ISSUES
    assert verdict.outcome.details["mean_percent"]["algo-2"] < 50 < verdict.outcome.details["mean_percent"]["algo-1"]


def test_training_processes_that_do_the_same_are_in_balance(tmp_path: Path) -> None:
    for node in ("algo-1", "algo-2"):
        samples.timeline(tmp_path, steps=120, node=node)
    assert judged(tmp_path, "LoadBalancing").outcome.status == QUIET


@pytest.mark.parametrize(
    ("workers", "wait_ms", "status"),
    [(0, 100, ISSUES), (0, 0, QUIET), (2, 100, QUIET), (2, 0, QUIET), (5, 0, ISSUES)],
    ids=["none, and steps wait", "none, and none is missed", "enough", "enough, no wait", "too many"],
)
def test_dataloader_compares_processes_with_cores(tmp_path: Path, workers: int, wait_ms: int, status: str) -> None:
    samples.described(tmp_path, num_workers=workers, cpu_limit=2.0)
    samples.timeline(tmp_path, lambda _: {**samples.STEP, "DataLoaderIter": wait_ms}, workers=workers, load_ms=100)
    samples.system(tmp_path, {"CPUUtilization": steady(40)}, count=10)
    assert judged(tmp_path, "Dataloader").outcome.status == status


def test_max_initialization_time_fires_for_a_late_first_step(tmp_path: Path) -> None:
    samples.timeline(tmp_path, initialisation_s=21 * 60)
    assert judged(tmp_path, "MaxInitializationTime").outcome.status == ISSUES
    assert judged(tmp_path, "MaxInitializationTime", threshold=22).outcome.status == QUIET


@pytest.mark.parametrize(("every", "status"), [(30, ISSUES), (100, QUIET)])
def test_step_outlier_counts_steps_far_from_the_mean(tmp_path: Path, every: int, status: str) -> None:
    def parts(step: int) -> dict[str, float]:
        return {**samples.STEP, "Forward": 2000 if step % every == every - 1 else 30}

    samples.timeline(tmp_path, parts, steps=600, validate_every=10_000)
    verdict = judged(tmp_path, "StepOutlier")
    assert verdict.outcome.status == status
    assert verdict.outcome.details["outliers"] == {"TRAIN": 600 // every}


def test_step_outlier_looks_at_one_mode_when_it_is_told_to(tmp_path: Path) -> None:
    samples.timeline(tmp_path, steps=40)
    assert set(judged(tmp_path, "StepOutlier").outcome.details["outliers"]) == {"TRAIN", "EVAL"}
    assert set(judged(tmp_path, "StepOutlier", mode="EVAL").outcome.details["outliers"]) == {"EVAL"}


@pytest.mark.parametrize("rule", ["OverallSystemUsage", "OverallFrameworkMetrics"])
def test_a_summary_never_fires(tmp_path: Path, rule: str) -> None:
    samples.timeline(tmp_path, starving)
    samples.system(tmp_path, GPU_CASES["CPUBottleneck"][0])
    outcome = judged(tmp_path, rule).outcome
    assert (outcome.status, outcome.triggered) == (QUIET, 0)
    assert outcome.datapoints > 0


@pytest.mark.parametrize("rule", [name for name in RULES if hasattr(awss, name)])
def test_names_and_defaults_are_those_of_aws_package(rule: str) -> None:
    theirs = {
        name: one.default
        for name, one in inspect.signature(getattr(awss, rule).__init__).parameters.items()
        if name != "self"
    }
    assert parameters(RULES[rule]()) == theirs


def test_every_rule_of_aws_package_is_here() -> None:
    theirs = {name for name, one in vars(awss).items() if inspect.isclass(one) and one.__module__ == awss.__name__}
    assert theirs - {"ProfilerReport", "ProfilerRuleBase"} <= set(RULES)


def test_profiler_report_takes_parameters_of_its_rules() -> None:
    rules = build(
        {"rule_to_invoke": "ProfilerReport", "CPUBottleneck_cpu_threshold": "80", "stepoutlier_mode": "train"}
    )
    assert parameters(rules["CPUBottleneck"])["cpu_threshold"] == 80
    assert parameters(rules["StepOutlier"])["mode"] == "TRAIN"
    assert set(rules) == set(RULES)


def test_all_wrong_parameters_are_told_at_once() -> None:
    wrong = {
        "BatchSize_windw": "5",
        "CPUBotleneck_threshold": "1",
        "StepOutlier_stddev": "many",
        "Dataloader_min_threshold": "-1",
    }
    with pytest.raises(RuleParameterError) as raised:
        build(wrong)
    text = str(raised.value)
    assert "no parameter 'windw'; did you mean 'window'?" in text
    assert "'CPUBotleneck' is no profiler rule; did you mean 'CPUBottleneck'?" in text
    assert "stddev is 'many'; write a number." in text
    assert "min_threshold is -1" in text


def test_a_rule_that_is_none_is_refused_with_a_guess() -> None:
    with pytest.raises(RuleParameterError, match="did you mean 'BatchSize'"):
        build({}, "BatchSiz")
