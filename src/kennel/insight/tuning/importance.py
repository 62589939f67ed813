"""Which hyperparameters matter: PED-ANOVA as Optuna has it.

Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces",
IJCAI 2023 (arXiv:2304.10255): how far the values of the good trials are from being spread like those of all trials.
"""

from __future__ import annotations

import warnings
from typing import Any

from kennel.insight.errors import InsightError
from kennel.insight.tuning.study import Parameter, Study, Trial

LEAST_TRIALS = 5
_FEW, _GOOD_OF_FEW, _GOOD = 40, 0.25, 0.1  # the share that counts as good; of few trials a tenth would be one or two


def importance(study: Study) -> tuple[dict[str, float], str]:
    """The share of each hyperparameter, 1 in all; and a sentence where there is none.

    Raises:
        InsightError: Optuna is not installed.
    """
    measured = [trial for trial in study.measured if _is_whole(study, trial)]
    if len(measured) < LEAST_TRIALS:
        return {}, f"Importance needs {LEAST_TRIALS} trials with a result; there are {len(measured)}."
    if len({trial.value for trial in measured}) == 1:
        return {}, "All trials have the same result: nothing that was tuned matters."
    if len(study.parameters) == 1:
        return {study.parameters[0].name: 1.0}, ""
    found = _evaluate(study, measured)
    total = sum(found.values())
    if total <= 0:
        return {}, "The good trials are spread like all of them: no hyperparameter stands out."
    return {name: value / total for name, value in found.items()}, ""


def _is_whole(study: Study, trial: Trial) -> bool:
    return all(parameter.name in trial.hyperparameters for parameter in study.parameters)


def _evaluate(study: Study, measured: list[Trial]) -> dict[str, float]:
    try:
        import optuna
    except ImportError as error:
        raise InsightError("Importance needs Optuna: pip install 'kennel[driver]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {parameter.name: _distribution(parameter) for parameter in study.parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator is marked as experimental
        found = optuna.create_study(direction="maximize" if study.maximize else "minimize")
        for trial in measured:
            params = {one.name: _value(one, trial.hyperparameters[one.name]) for one in study.parameters}
            found.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=trial.value))
        share = _GOOD_OF_FEW if len(measured) < _FEW else _GOOD
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
        result = optuna.importance.get_param_importances(found, evaluator=evaluator, normalize=False)
    return {name: max(0.0, float(value)) for name, value in result.items()}


def _distribution(parameter: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.kind == "categorical":
        return CategoricalDistribution(parameter.values)
    if parameter.kind == "integer":
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.is_log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.is_log)


def _value(parameter: Parameter, text: str) -> Any:
    """What the distribution holds; a value outside of a range, by a warm start or by rounding, is moved to its end."""
    if parameter.kind == "categorical":
        return text if text in parameter.values else parameter.values[0]
    number = min(parameter.high, max(parameter.low, float(text)))
    return round(number) if parameter.kind == "integer" else number
