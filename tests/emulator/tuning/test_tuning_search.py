"""The search by itself: what is suggested, and what Hyperband ends. No server, no jobs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from scipy import stats

from bench.functions import BRANIN, HARTMANN6, Function
from bench.tuning_study import search, search_by_epoch
from kennel.emulator.tuning.problem import GP, TPE, Problem, Trial
from kennel.emulator.tuning.search import judge, suggest
from kennel.emulator.tuning.space import Parameter, auto_scale, read_space, resolve_auto

SEEDS = range(20)
LINE = read_space({"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]})


def suggestions(problem: Problem, count: int) -> list[dict[str, str]]:
    """What is tried one after the other, all of it with the value of x."""
    found = []
    for _ in range(count):
        tuned = suggest(problem)
        value = float(tuned.get("x", "0"))
        problem = dataclasses.replace(problem, trials=(*problem.trials, Trial(tuned, "complete", value)))
        found.append(tuned)
    return found


def numeric(kind: str, low: str, high: str, scale: str) -> tuple[Parameter, ...]:
    one = {"Name": "x", "MinValue": low, "MaxValue": high, "ScalingType": scale}
    return read_space({f"{kind}ParameterRanges": [one]})


@pytest.mark.parametrize("function", [BRANIN, HARTMANN6], ids=lambda function: function.name)
def test_bayesian_beats_random_at_equal_trials_over_twenty_seeds(function: Function) -> None:
    """With Parzen estimators, which need no torch; bench/tuning.py has the whole study."""
    random = [search(function, "Random", seed, 40).best for seed in SEEDS]
    bayesian = [search(function, "Bayesian", seed, 40).best for seed in SEEDS]
    assert stats.wilcoxon(bayesian, random, alternative="less").pvalue < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("function", [BRANIN, HARTMANN6], ids=lambda function: function.name)
def test_gaussian_processes_beat_random_and_come_near_the_minimum(function: Function) -> None:
    random = [search(function, "Random", seed, 30).best for seed in range(5)]
    bayesian = [search(function, "Bayesian", seed, 30, GP).best for seed in range(5)]
    assert all(mine < other for mine, other in zip(bayesian, random, strict=True))
    assert sorted(bayesian)[2] < function.minimum + 0.3


@pytest.mark.parametrize("function", [BRANIN, HARTMANN6], ids=lambda function: function.name)
def test_hyperband_comes_as_far_with_a_third_of_the_epochs(function: Function) -> None:
    ratios = []
    for seed in range(7):
        full = search_by_epoch(function, "Random", seed, 27, trials=20)
        eager = search_by_epoch(function, "Hyperband", seed, 27, trials=200, goal=full.best)
        assert eager.best <= full.best
        ratios.append(eager.epochs / full.epochs)
    assert sorted(ratios)[3] <= 1 / 3, ratios


@pytest.mark.parametrize("strategy", ["Random", "Bayesian", "Hyperband"])
def test_the_same_seed_and_results_give_the_same_suggestions(strategy: str) -> None:
    once, again, other = (suggestions(Problem(strategy, LINE, True, seed), 15) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_a_suggestion_needs_no_memory_of_the_one_before() -> None:
    """Another process, which has seen nothing, suggests the same."""
    problem = Problem("Bayesian", LINE, True, 1)
    for tuned in suggestions(problem, 12):
        problem = dataclasses.replace(problem, trials=(*problem.trials, Trial(tuned, "complete", float(tuned["x"]))))
    code = f"""if True:
        from kennel.emulator.tuning.problem import Problem, Trial
        from kennel.emulator.tuning.space import Parameter
        from kennel.emulator.tuning.search import suggest
        print(suggest({problem!r}))
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(suggest(problem))


@pytest.mark.parametrize("engine", [TPE, pytest.param(GP, marks=pytest.mark.slow)])
def test_trials_that_run_are_taken_into_account(engine: str) -> None:
    done = tuple(Trial({"x": str(n / 20)}, "complete", -abs(n / 20 - 0.5)) for n in range(21))
    problem = Problem("Bayesian", LINE, True, 1, trials=done, engine=engine)
    for _ in range(6):
        problem = dataclasses.replace(problem, trials=(*problem.trials, Trial(suggest(problem), "running")))
    asked = [float(trial.params["x"]) for trial in problem.trials[21:]]
    assert len(set(asked)) == 6
    assert max(asked) - min(asked) > 0.005, "several at once do not ask the same question"


def test_what_failed_is_not_asked_again_where_there_are_few_choices() -> None:
    space = read_space({"CategoricalParameterRanges": [{"Name": "c", "Values": list("abcdef")}]})
    for strategy in ("Random", "Bayesian", "Grid"):
        problem = Problem(strategy, space, True, 3)
        for _ in range(6):
            tuned = suggest(problem)
            problem = dataclasses.replace(problem, trials=(*problem.trials, Trial(tuned, "failed")))
        assert sorted(trial.params["c"] for trial in problem.trials) == list("abcdef"), strategy
        if strategy != "Grid":
            assert suggest(problem)["c"] in "abcdef", "there is no other, so one comes again"


@pytest.mark.parametrize(
    ("kind", "low", "high", "scale", "middle"),
    [
        ("Continuous", "0.0001", "1", "Logarithmic", 0.01),
        ("Continuous", "0.0001", "1", "Linear", 0.5),
        ("Continuous", "0", "0.9999", "ReverseLogarithmic", 0.99),
        ("Integer", "1", "10000", "Logarithmic", 100),
        ("Integer", "0", "10", "Linear", 5),
    ],
)
def test_half_of_the_suggestions_lie_on_either_side_of_the_scales_middle(
    kind: str, low: str, high: str, scale: str, middle: float
) -> None:
    problem = Problem("Random", numeric(kind, low, high, scale), True, 1)
    texts = [suggest(dataclasses.replace(problem, seed=seed))["x"] for seed in range(200)]
    values = [float(text) for text in texts]
    assert all(float(low) <= value <= float(high) for value in values)
    assert 70 <= sum(value < middle for value in values) <= 130
    if kind == "Integer":
        assert all(text == str(int(text)) for text in texts)


@pytest.mark.parametrize(
    ("kind", "low", "high", "scale"),
    [
        ("continuous", 1e-5, 1e-1, "Logarithmic"),
        ("continuous", 1.0, 99.0, "Linear"),
        ("continuous", 0.0, 1.0, "Linear"),
        ("continuous", 0.5, 0.999, "ReverseLogarithmic"),
        ("continuous", 1e-6, 0.99, "Logarithmic"),
        ("continuous", -1.0, 1e6, "Linear"),
        ("integer", 16.0, 512.0, "Linear"),
        ("integer", 1.0, 1000.0, "Logarithmic"),
    ],
)
def test_auto_scaling_is_logarithmic_from_two_powers_of_ten_on(kind: str, low: float, high: float, scale: str) -> None:
    assert auto_scale(kind, low, high) == scale


def test_hints_become_ranges_or_stay() -> None:
    hints = {"lr": "0.01", "dropout": "0.3", "layers": "3", "amp": "True", "optimizer": "adam", "zero": "0"}
    ranges, static = resolve_auto({"AutoParameters": [{"Name": n, "ValueHint": h} for n, h in hints.items()]})
    space: dict[str, Any] = {one.name: one for one in read_space(ranges)}
    assert static == {"optimizer": "adam", "zero": "0"}
    assert (space["lr"].low, space["lr"].high) == (0.001, 0.1)
    assert space["dropout"].high == pytest.approx(0.93)
    assert (space["layers"].kind, space["layers"].low, space["layers"].high) == ("integer", 1, 30)
    assert space["amp"].values == ("True", "False")


def test_a_parents_trials_lead_the_search_even_where_values_are_of_another_size() -> None:
    parents = tuple(Trial({"x": str(n / 30)}, "complete", 1000 - abs(n / 30 - 0.8), source=1) for n in range(31))
    warm = Problem("Bayesian", LINE, True, 1, trials=parents, transfer=True)
    assert abs(float(suggest(warm)["x"]) - 0.8) < 0.2
    own = tuple(Trial({"x": str(n / 30)}, "complete", -abs(n / 30 - 0.8)) for n in range(10))
    assert abs(float(suggest(dataclasses.replace(warm, trials=(*parents, *own)))["x"]) - 0.8) < 0.2


def test_a_parents_trials_outside_the_new_range_are_passed_over() -> None:
    parents = tuple(Trial({"x": str(5 + n)}, "complete", 1.0, source=1) for n in range(30))
    assert 0 <= float(suggest(Problem("Bayesian", LINE, True, 1, trials=parents))["x"]) <= 1


def test_hyperband_keeps_the_best_third_of_a_rung_and_ends_at_the_maximum() -> None:
    problem = Problem("Hyperband", LINE, True, 1, max_resource=9)
    lasts = []
    for value in (5.0, 1.0, 2.0, 6.0, 0.0):
        number = len(problem.trials)
        begun = dataclasses.replace(problem, trials=(*problem.trials, Trial({"x": "0.5"}, "running")))
        last, rungs = judge(begun, number, [(epoch, value) for epoch in range(1, 10)])
        lasts.append(last)
        ended = Trial({"x": "0.5"}, "complete" if last == 9 else "pruned", value, last or 0, rungs)
        problem = dataclasses.replace(problem, trials=(*problem.trials, ended))
    assert lasts == [9, 1, 1, 9, 1]
    later = dataclasses.replace(problem, trials=(*problem.trials, Trial({"x": "0.5"}, "running")), min_resource=3)
    assert judge(later, 5, [(1, -9.0), (2, -9.0)])[0] is None, "MinResource"
