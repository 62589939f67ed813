"""Warm starts: what a new tuning job may change of its parents, and what it takes over of them.

Source: developer guide, "Run a Warm Start Hyperparameter Tuning Job", with its restrictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kennel.emulator.state.store import Document
from kennel.emulator.tuning.request import MAX_JOBS, job_limit
from kennel.emulator.tuning.space import Parameter
from kennel.emulator.tuning.status import ENDED, TRIALS, value_of
from kennel.emulator.tuning.trials import OBJECTIVE_KEY, definitions_of, objective_of, space_of, static_of

MAX_CHANGES = 10
IDENTICAL = "IdenticalDataAndAlgorithm"


def parents_of(request: Mapping[str, Any]) -> list[str]:
    """The names of the parent jobs."""
    config = request.get("WarmStartConfig") or {}
    return [one.get("HyperParameterTuningJobName", "") for one in config.get("ParentHyperParameterTuningJobs") or []]


def warm_start_problems(request: Mapping[str, Any], parents: Mapping[str, Document | None]) -> list[str]:
    """Sentences about parents that are none, or that the new job is too different from."""
    found = [f"Parent tuning job '{name}' is named twice." for name in parents if parents_of(request).count(name) > 1]
    for name, parent in parents.items():
        if parent is None:
            found.append(
                f"Parent tuning job '{name}' does not exist. list-hyper-parameter-tuning-jobs shows what does."
            )
        elif parent["HyperParameterTuningJobStatus"] not in ENDED:
            found.append(f"Parent tuning job '{name}' is {parent['HyperParameterTuningJobStatus']}. Wait for its end.")
        elif "TrainingJobDefinition" not in parent:
            found.append(f"Parent tuning job '{name}' has several training job definitions, which is not supported.")
        else:
            found += [f"Parent tuning job '{name}': {problem}" for problem in _differences(request, parent)]
    known = [parent for parent in parents.values() if parent is not None]
    total = sum(len(parent[TRIALS]) for parent in known) + job_limit(request)
    if known and total > MAX_JOBS:
        found.append(f"The parents' training jobs and the new ones are {total}; {MAX_JOBS} are allowed together.")
    return found


def _differences(request: Mapping[str, Any], parent: Document) -> Iterator[str]:
    new, old = definitions_of(request)[0], definitions_of(parent)[0]
    if objective_of(request, new) != objective_of(parent, old):
        yield "the objective metric must be the same."
    static, old_static = _static(request, new), _static(parent, old)
    space = {one.name: one for one in space_of(request, new)}
    old_space = {one.name: one for one in space_of(parent, old)}
    count, old_count = len(static) + len(space), len(old_static) + len(old_space)
    if count != old_count:
        yield f"the number of static and tunable hyperparameters must stay the same; it was {old_count}, now {count}."
    for name in sorted(space.keys() & old_space.keys()):
        if space[name].kind != old_space[name].kind:
            yield f"'{name}' was {old_space[name].kind} and is {space[name].kind}; the type must not change."
    changes = _changes(static, old_static, old_space)
    if changes > MAX_CHANGES:
        yield f"there are {changes} changes to static hyperparameters; {MAX_CHANGES} are allowed."
    if request["WarmStartConfig"]["WarmStartType"] == IDENTICAL:
        if new.get("InputDataConfig") != old.get("InputDataConfig"):
            yield "IdenticalDataAndAlgorithm needs the same InputDataConfig. Use TransferLearning for other data."
        image = "TrainingImage"
        if new["AlgorithmSpecification"].get(image) != old["AlgorithmSpecification"].get(image):
            yield "IdenticalDataAndAlgorithm needs the same TrainingImage. Use TransferLearning for another one."


def _static(request: Mapping[str, Any], definition: Document) -> dict[str, str]:
    return {key: value for key, value in static_of(request, definition).items() if key != OBJECTIVE_KEY}


def _changes(static: Mapping[str, str], old_static: Mapping[str, str], old_space: Mapping[str, Parameter]) -> int:
    """Tunable ones that became static, each value of a categorical one, and other values of static ones, which are two
    changes each."""
    count = 0
    for name, value in static.items():
        if name in old_space:
            count += max(1, len(old_space[name].values))
        elif name in old_static and old_static[name] != value:
            count += 2
    return count


def inherited(parents: list[Document]) -> list[Document]:
    """The trials of parents that count, as a new job keeps them: with their static hyperparameters and their source."""
    kept = []
    for source, parent in enumerate(parents, start=1):
        static = _static(parent, definitions_of(parent)[0])
        for trial in parent[TRIALS]:
            if value_of(trial) is not None:
                public = {member: value for member, value in trial.items() if not member.startswith("_")}
                kept.append({**public, "_params": {**static, **trial["TunedHyperParameters"]}, "_source": source})
    return kept
