"""What a tuning job tries next, and which trials Hyperband ends: Optuna's samplers and pruner over stored trials.

Nothing is remembered here: a suggestion follows from the problem and its number alone, so that a server that was killed
goes on as if nothing had happened, and the same seed and results give the same suggestions again.
"""

from __future__ import annotations

import copy
import hashlib
import math
import statistics
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from kennel.emulator.tuning.problem import GP, Problem, Trial
from kennel.emulator.tuning.space import CATEGORICAL, INTEGER, LOG, REVERSE_LOG, Parameter

# Hyperband is asynchronous successive halving here, which is Hyperband's most eager bracket: with all its brackets it
# needed twice as many epochs for the same value (docs/log.md). MinResource says when a trial can end first.
REDUCTION = 3  # one of three goes on
_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "running": TrialState.RUNNING}
_NEW_TRIES = 50  # to find a combination that has not been tried, where there are finitely many

optuna.logging.set_verbosity(optuna.logging.ERROR)


def suggest(problem: Problem) -> dict[str, str]:
    """The next combination, as the job gets it. One that has been tried comes again only when there is no other."""
    tried = {tuple(sorted(trial.params.items())) for trial in problem.trials}
    finite = math.prod(parameter.choices for parameter in problem.space) < math.inf
    again = finite and problem.strategy != "Grid"
    for attempt in range(_NEW_TRIES if again else 1):
        found = _ask(problem, attempt)
        if tuple(sorted(found.items())) not in tried:
            break
    return found


def judge(problem: Problem, number: int, values: Sequence[tuple[int, float]]) -> tuple[int | None, dict[str, float]]:
    """The epoch with which Hyperband ends a running trial, or None, and its notes on it.

    Args:
        problem: its trials include the one that is judged.
        number: its place among them.
        values: what it has newly reported: epochs done, and the objective then.
    """
    study = _study(problem, "judge")
    for step, value in values:
        trial = copy.deepcopy(study.get_trials(deepcopy=False)[number])
        trial.intermediate_values = {step: value}
        if step >= problem.max_resource or study.pruner.prune(study, trial):
            return step, _rungs(study, number)
    return None, _rungs(study, number)


def _rungs(study: optuna.Study, number: int) -> dict[str, float]:
    attrs = study.get_trials(deepcopy=False)[number].system_attrs
    return {name: value for name, value in attrs.items() if name.startswith("completed_rung_")}


def _ask(problem: Problem, attempt: int) -> dict[str, str]:
    study = _study(problem, str(attempt), again=attempt > 0)
    trial = study.ask({parameter.name: _distribution(parameter) for parameter in problem.space})
    return {parameter.name: parameter.text(trial.params[parameter.name]) for parameter in problem.space}


def _study(problem: Problem, salt: str, *, again: bool = False) -> optuna.Study:
    pruner = optuna.pruners.SuccessiveHalvingPruner(problem.min_resource, REDUCTION)
    study = optuna.create_study(
        direction="maximize" if problem.maximize else "minimize",
        sampler=_sampler(problem, _seed(problem, salt), again=again),
        pruner=pruner if problem.strategy == "Hyperband" else optuna.pruners.NopPruner(),
    )
    scales = _scales(problem) if problem.transfer else {}
    for trial in problem.trials:
        study.add_trial(_frozen(problem, trial, *scales.get(trial.source, (0.0, 1.0))))
    return study


def _seed(problem: Problem, salt: str) -> int:
    text = f"{problem.seed} {len(problem.trials)} {salt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _sampler(problem: Problem, seed: int, *, again: bool) -> optuna.samplers.BaseSampler:
    random = optuna.samplers.RandomSampler(seed=seed)
    if problem.strategy == "Grid":
        return optuna.samplers.GridSampler({one.name: one.values for one in problem.space}, seed=problem.seed)
    if problem.strategy == "Random" or again:
        return random
    startup = max(4, min(10, 2 * len(problem.space)))
    if problem.strategy == "Bayesian" and problem.engine == GP:
        return optuna.samplers.GPSampler(
            seed=seed, independent_sampler=random, n_startup_trials=startup, warn_independent_sampling=False
        )
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.kind == CATEGORICAL:
        return CategoricalDistribution(parameter.values)
    if parameter.kind == INTEGER:
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.scale == LOG)
    if parameter.scale == REVERSE_LOG:
        return FloatDistribution(1 - parameter.high, 1 - parameter.low, log=True)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.scale == LOG)


def _frozen(problem: Problem, trial: Trial, mean: float, spread: float) -> FrozenTrial:
    """The trial as Optuna has it; one that lies outside the ranges only takes its number."""
    found = {one.name: one.coordinate(trial.params[one.name]) for one in problem.space if one.name in trial.params}
    usable = len(found) == len(problem.space) and None not in found.values()
    state = _STATES.get(trial.state, TrialState.FAIL) if usable else TrialState.FAIL
    if state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.value is None:
        state = TrialState.FAIL
    value = None if trial.value is None else (trial.value - mean) / spread
    return optuna.trial.create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params=found if usable else {},
        distributions={one.name: _distribution(one) for one in problem.space} if usable else {},
        system_attrs=dict(trial.rungs),
        intermediate_values={trial.step: value} if trial.step and value is not None else {},
    )


def _scales(problem: Problem) -> dict[int, tuple[float, float]]:
    """Mean and spread of each source's values; a spread needs two."""
    values: dict[int, list[float]] = {}
    for trial in problem.trials:
        if trial.value is not None:
            values.setdefault(trial.source, []).append(trial.value)
    return {source: (statistics.fmean(found), statistics.pstdev(found) or 1.0) for source, found in values.items()}
