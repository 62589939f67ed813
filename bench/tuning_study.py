"""Searches without jobs: the tuning engine's own suggestions and stops, over a function instead of a training."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from bench.functions import Function
from kennel.emulator.tuning.problem import TPE, Problem, Trial
from kennel.emulator.tuning.search import judge, suggest
from kennel.emulator.tuning.space import read_space


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    best: float
    epochs: int  # of all trials together


def search(function: Function, strategy: str, seed: int, trials: int, engine: str = TPE) -> Found:
    """One trial after the other, each of one epoch."""
    problem = Problem(strategy, read_space(function.parameter_ranges()), maximize=False, seed=seed, engine=engine)
    for _ in range(trials):
        tuned = suggest(problem)
        value = function.value({name: float(text) for name, text in tuned.items()})
        problem = replace(problem, trials=(*problem.trials, Trial(tuned, "complete", value, step=1)))
    return Found(min(trial.value for trial in problem.trials if trial.value is not None), trials)


def suggestion_s(function: Function, known: int, engine: str, seed: int) -> float:
    """How long one suggestion of the Bayesian strategy takes after so many trials, which chance has chosen."""
    space = read_space(function.parameter_ranges())
    problem = Problem("Random", space, maximize=False, seed=seed, engine=engine)
    tried = [suggest(replace(problem, seed=seed * 1000 + number)) for number in range(known)]
    values = [function.value({name: float(text) for name, text in one.items()}) for one in tried]
    trials = tuple(Trial(one, "complete", value, step=1) for one, value in zip(tried, values, strict=True))
    asked = replace(problem, strategy="Bayesian", trials=trials)
    start = time.perf_counter()
    suggest(asked)
    return time.perf_counter() - start


def curve(final: float, epoch: int, epochs: int, start: float = 100.0) -> float:
    """A fake training's objective after an epoch: it comes down from where all begin, ever more slowly."""
    return final + (start - final) * math.exp(-6 * epoch / epochs)


def search_by_epoch(
    function: Function, strategy: str, seed: int, epochs: int, *, trials: int, goal: float = -math.inf
) -> Found:
    """Trials of many epochs, which Hyperband may end, until there are enough or one has come to the goal."""
    space = read_space(function.parameter_ranges())
    problem = Problem(strategy, space, maximize=False, seed=seed, max_resource=epochs)
    spent, best = 0, math.inf
    for number in range(trials):
        tuned = suggest(problem)
        final = function.value({name: float(text) for name, text in tuned.items()})
        values = [(epoch, curve(final, epoch, epochs)) for epoch in range(1, epochs + 1)]
        last = epochs
        rungs: dict[str, float] = {}
        if strategy == "Hyperband":
            begun = replace(problem, trials=(*problem.trials, Trial(tuned, "running")))
            ended, rungs = judge(begun, number, values)
            last = ended or epochs
        value = values[last - 1][1]
        state = "complete" if last == epochs else "pruned"
        problem = replace(problem, trials=(*problem.trials, Trial(tuned, state, value, last, rungs)))
        spent, best = spent + last, min(best, value)
        if best <= goal:
            break
    return Found(best, spent)
