"""What is wrong with a CreateHyperParameterTuningJob request beyond the types of its members.

Sources: developer guide, "Resource Limits for Automatic Model Tuning", "Understand the hyperparameter tuning
strategies"; API reference, HyperParameterTuningJobConfig, HyperbandStrategyConfig, HyperParameterTuningResourceConfig.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kennel.emulator.state.store import Document
from kennel.emulator.tuning.space import names_of, range_problems, read_space, resolve_auto
from kennel.emulator.tuning.trials import OBJECTIVE_KEY, definitions_of, objective_of, ranges_of, space_of, static_of

MAX_JOBS, MAX_PARALLEL, MAX_PARAMETERS, MAX_HYPERPARAMETERS, MAX_EPOCHS = 750, 100, 30, 100, 20_000
MAX_RUNTIME_S = 30 * 86_400
_EPOCH_KEYS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")  # where MaxResource is looked for
_SIMPLE_RESOURCES = ("InstanceType", "InstanceCount", "VolumeSizeInGB")


def tuning_problems(request: Mapping[str, Any]) -> list[str]:
    """A sentence for each thing that SageMaker, or the engine, would not take."""
    definitions = definitions_of(request)
    if bool(request.get("TrainingJobDefinition")) == bool(request.get("TrainingJobDefinitions")):
        return ["Send either TrainingJobDefinition or TrainingJobDefinitions, and one of them."]
    found = [*_definition_list_problems(request, definitions)]
    for definition in definitions:
        where = f"{definition['DefinitionName']}: " if "DefinitionName" in definition else ""
        found += [where + problem for problem in _definition_problems(request, definition)]
    if found:  # what follows reads the ranges
        return found
    return [*_strategy_problems(request, definitions), *_limit_problems(request)]


def _definition_list_problems(request: Mapping[str, Any], definitions: list[Document]) -> Iterator[str]:
    types = {objective_of(request, definition).get("Type") for definition in definitions}
    if len(types) > 1:
        yield "All training job definitions need a TuningObjective of the same Type, so that they can be compared."
    if len(definitions) == 1 and "TrainingJobDefinition" in request:
        return
    config = request["HyperParameterTuningJobConfig"]
    for member in ("ParameterRanges", "HyperParameterTuningJobObjective"):
        if member in config:
            yield f"With TrainingJobDefinitions, {member} stands in each definition. Take it out of the configuration."
    names = [definition.get("DefinitionName") for definition in definitions]
    if None in names or len(set(names)) < len(names):
        yield "Each of TrainingJobDefinitions needs a DefinitionName of its own."
    if "WarmStartConfig" in request:
        yield "WarmStartConfig works with a single TrainingJobDefinition. Send one."


def _definition_problems(request: Mapping[str, Any], definition: Document) -> Iterator[str]:
    config = request["HyperParameterTuningJobConfig"]
    pairs = (("HyperParameterRanges", "ParameterRanges"), ("TuningObjective", "HyperParameterTuningJobObjective"))
    for own, shared in pairs:
        if own in definition and shared in config:
            yield f"{own} and the configuration's {shared} say the same. Send one of them."
    yield from _objective_problems(definition, objective_of(request, definition))
    yield from _resource_problems(definition)
    ranges = ranges_of(request, definition)
    yield from range_problems(ranges)
    names = names_of(ranges)
    static = set(definition.get("StaticHyperParameters") or {})
    if not names:
        yield "There is no hyperparameter to tune. Send ParameterRanges."
    if len(names) > MAX_PARAMETERS:
        yield f"{len(names)} hyperparameters are tuned; {MAX_PARAMETERS} are allowed. Make the others static."
    if len(names) + len(static) + 1 > MAX_HYPERPARAMETERS:
        yield f"There are {len(names) + len(static) + 1} hyperparameters in all; {MAX_HYPERPARAMETERS} are allowed."
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"Hyperparameter '{name}' has two ranges. Send one."
    for name in sorted(static & set(names)):
        yield f"Hyperparameter '{name}' is both static and tuned. Choose one."
    named = (definition.get("StaticHyperParameters") or {}).get(OBJECTIVE_KEY)
    if OBJECTIVE_KEY in names or named not in (None, objective_of(request, definition).get("MetricName")):
        yield f"Hyperparameter '{OBJECTIVE_KEY}' is the objective's name, set by SageMaker. Leave it out."
    if ranges.get("AutoParameters") and "Autotune" not in request:
        yield "AutoParameters need Autotune with the Mode Enabled. Set it, or send ranges."


def _objective_problems(definition: Document, objective: Mapping[str, Any]) -> Iterator[str]:
    if not objective:
        yield "There is no objective. Send HyperParameterTuningJobObjective with Type and MetricName."
        return
    metrics = [one["Name"] for one in definition["AlgorithmSpecification"].get("MetricDefinitions") or []]
    if objective["MetricName"] not in metrics:
        yield (
            f"Objective metric for the hyperparameter tuning job, [{objective['MetricName']}], isn't valid for the "
            f"algorithm. Choose one of MetricDefinitions: {', '.join(metrics) or 'there are none'}."
        )


def _resource_problems(definition: Document) -> Iterator[str]:
    flexible = definition.get("HyperParameterTuningResourceConfig")
    if bool(flexible) == bool(definition.get("ResourceConfig")):
        yield "Send either ResourceConfig or HyperParameterTuningResourceConfig."
    if not flexible:
        return
    simple = [member for member in _SIMPLE_RESOURCES if member in flexible]
    if simple and "InstanceConfigs" in flexible:
        yield f"{', '.join(simple)} and InstanceConfigs exclude each other. Send one of them."
    if "AllocationStrategy" in flexible and "InstanceConfigs" not in flexible:
        yield "AllocationStrategy orders InstanceConfigs. Send them, or leave it out."


def _strategy_problems(request: Mapping[str, Any], definitions: list[Document]) -> Iterator[str]:
    config = request["HyperParameterTuningJobConfig"]
    strategy = config["Strategy"]
    if "StrategyConfig" in config and strategy != "Hyperband":
        yield f"StrategyConfig is for the strategy Hyperband, not {strategy}. Leave it out."
    if strategy == "Hyperband":
        if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
            yield "TrainingJobEarlyStoppingType must be Off with Hyperband, which stops training jobs by itself."
        for definition in definitions:
            yield from _hyperband_problems(request, definition)
    if strategy == "Grid":
        yield from _grid_problems(request, definitions)


def _hyperband_problems(request: Mapping[str, Any], definition: Document) -> Iterator[str]:
    try:
        low, high = resource_of(request, definition)
    except ValueError as error:
        yield str(error)
        return
    if low > high:
        yield f"MinResource ({low}) is above MaxResource ({high}). Exchange them."
    if high > MAX_EPOCHS:
        yield f"MaxResource is {high}; {MAX_EPOCHS} is the most."


def resource_of(request: Mapping[str, Any], definition: Document) -> tuple[int, int]:
    """Hyperband's MinResource and MaxResource, in epochs.

    Raises:
        ValueError: MaxResource is neither given nor to be inferred.
    """
    config = request["HyperParameterTuningJobConfig"]
    given = (config.get("StrategyConfig") or {}).get("HyperbandStrategyConfig") or {}
    low = int(given.get("MinResource", 1))
    if "MaxResource" in given:
        return low, int(given["MaxResource"])
    static = static_of(request, definition)
    for key in _EPOCH_KEYS:
        if static.get(key, "").isdecimal():
            return low, int(static[key])
    raise ValueError(
        f"Hyperband cannot infer MaxResource: StaticHyperParameters has a number for none of {', '.join(_EPOCH_KEYS)}. "
        "Send StrategyConfig.HyperbandStrategyConfig.MaxResource."
    )


def _grid_problems(request: Mapping[str, Any], definitions: list[Document]) -> Iterator[str]:
    for definition in definitions:
        wrong = [one.name for one in space_of(request, definition) if not one.values]
        if wrong:
            yield f"The strategy Grid takes categorical hyperparameters only: list the values of {', '.join(wrong)}."
            return
    total = grid_size(request)
    limit = request["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    if limit not in (None, total):
        yield f"The grid has {total} combinations, MaxNumberOfTrainingJobs is {limit}. Leave it out, or send {total}."


def grid_size(request: Mapping[str, Any]) -> int:
    """The combinations of all definitions together."""
    spaces = [space_of(request, definition) for definition in definitions_of(request)]
    return sum(int(math.prod(len(one.values) for one in space)) for space in spaces)


def _limit_problems(request: Mapping[str, Any]) -> Iterator[str]:
    config = request["HyperParameterTuningJobConfig"]
    limits, criteria = config["ResourceLimits"], config.get("TuningJobCompletionCriteria") or {}
    jobs, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    if jobs is not None and parallel > jobs:
        yield f"MaxParallelTrainingJobs ({parallel}) is above MaxNumberOfTrainingJobs ({jobs}). Lower it."
    if limits.get("MaxRuntimeInSeconds", 0) > MAX_RUNTIME_S:
        yield f"MaxRuntimeInSeconds is {limits['MaxRuntimeInSeconds']}; 30 days ({MAX_RUNTIME_S}) are the most."
    endless = jobs is None and "MaxRuntimeInSeconds" not in limits and not criteria and "Autotune" not in request
    if endless and config["Strategy"] != "Grid":
        yield "The job has no end: send MaxNumberOfTrainingJobs, MaxRuntimeInSeconds or TuningJobCompletionCriteria."


def quota_problem(request: Mapping[str, Any]) -> str | None:
    """The sentence of ResourceLimitExceeded, or None."""
    limits = request["HyperParameterTuningJobConfig"]["ResourceLimits"]
    grid = request["HyperParameterTuningJobConfig"]["Strategy"] == "Grid"
    asked = (
        ("training jobs per hyperparameter tuning job", MAX_JOBS,
         grid_size(request) if grid else limits.get("MaxNumberOfTrainingJobs", 0)),
        ("parallel training jobs per hyperparameter tuning job", MAX_PARALLEL, limits["MaxParallelTrainingJobs"]),
    )  # fmt: skip
    for what, limit, count in asked:
        if count > limit:
            return (
                f"The account-level service limit 'Number of {what}' is {limit}, with current utilization of 0 and a "
                f"request delta of {count}. Ask for {limit} or fewer."
            )
    return None


def with_autotune(request: Mapping[str, Any]) -> Document:
    """The configuration with what Autotune fills in where nothing was sent."""
    config: Document = dict(request["HyperParameterTuningJobConfig"])
    if "Autotune" not in request:
        return config
    widths = [len(read_space(resolve_auto(ranges_of(request, one))[0])) for one in definitions_of(request)]
    if config["Strategy"] in ("Bayesian", "Random"):
        config.setdefault("TrainingJobEarlyStoppingType", "Auto")
        jobs = {"MaxNumberOfTrainingJobs": min(100, max(20, 10 * max(widths)))}
        config["ResourceLimits"] = {**jobs, **config["ResourceLimits"]}
    criteria = config.get("TuningJobCompletionCriteria") or {}
    config["TuningJobCompletionCriteria"] = {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}, **criteria}
    return config


def job_limit(document: Mapping[str, Any]) -> int:
    """How many trials there are at most."""
    config = document["HyperParameterTuningJobConfig"]
    if config["Strategy"] == "Grid":
        return grid_size(document)
    return int(config["ResourceLimits"].get("MaxNumberOfTrainingJobs", MAX_JOBS))
