"""The training jobs of a tuning job: what their requests are, from its definitions and what was suggested."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

from kennel.emulator.state.store import Document
from kennel.emulator.tuning.space import Parameter, Ranges, read_space, resolve_auto
from kennel.storage import Uri

OBJECTIVE_KEY = "_tuning_objective_metric"  # a hyperparameter that SageMaker adds to every trial
_SAME = (  # members of a definition that are a training job's, too
    "AlgorithmSpecification", "RoleArn", "InputDataConfig", "VpcConfig", "OutputDataConfig", "StoppingCondition",
    "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining", "CheckpointConfig",
    "RetryStrategy", "Environment",
)  # fmt: skip


def definitions_of(request: Mapping[str, Any]) -> list[Document]:
    """The training job definitions of a tuning job, one or several."""
    one = request.get("TrainingJobDefinition")
    return [one] if one else list(request.get("TrainingJobDefinitions") or [])


def objective_of(request: Mapping[str, Any], definition: Mapping[str, Any]) -> Document:
    """Type and MetricName for a definition; empty where there is none."""
    config = request["HyperParameterTuningJobConfig"]
    found: Document = definition.get("TuningObjective") or config.get("HyperParameterTuningJobObjective") or {}
    return found


def ranges_of(request: Mapping[str, Any], definition: Mapping[str, Any]) -> Ranges:
    """What a definition searches, as it was sent."""
    config = request["HyperParameterTuningJobConfig"]
    found: Ranges = definition.get("HyperParameterRanges") or config.get("ParameterRanges") or {}
    return found


def space_of(request: Mapping[str, Any], definition: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """What a definition searches."""
    return read_space(resolve_auto(ranges_of(request, definition))[0])


def static_of(request: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[str, str]:
    """The hyperparameters that are the same in all trials of a definition."""
    fixed = resolve_auto(ranges_of(request, definition))[1]
    return {**fixed, **(definition.get("StaticHyperParameters") or {})}


def trial_name(document: Mapping[str, Any], number: int) -> str:
    """TUNING-JOB-NNN-HEX as SageMaker has them; the same again after a restart."""
    name = document["HyperParameterTuningJobName"]
    digest = hashlib.sha256(f"{name} {document['CreationTime']} {number}".encode()).hexdigest()
    return f"{name}-{number:03}-{digest[:8]}"


def training_request(
    request: Mapping[str, Any], definition: Mapping[str, Any], name: str, tuned: Mapping[str, str]
) -> Document:
    """The CreateTrainingJob request of a trial. Each has a checkpoint folder of its own, below the definition's."""
    made = {member: copy.deepcopy(definition[member]) for member in _SAME if member in definition}
    objective = objective_of(request, definition).get("MetricName", "")
    if "CheckpointConfig" in made:
        made["CheckpointConfig"]["S3Uri"] = str(Uri.parse(made["CheckpointConfig"]["S3Uri"]).join(name))
    return {
        **made,
        "TrainingJobName": name,
        "ResourceConfig": resources_of(definition),
        "HyperParameters": {**static_of(request, definition), **tuned, OBJECTIVE_KEY: objective},
    }


def resources_of(definition: Mapping[str, Any]) -> Document:
    """ResourceConfig of the trials. Of several instance configurations, the first: there is always room for it here."""
    given = definition.get("HyperParameterTuningResourceConfig")
    if not given:
        return copy.deepcopy(definition.get("ResourceConfig") or {})
    first = (given.get("InstanceConfigs") or [given])[0]
    members = ("InstanceType", "InstanceCount", "VolumeSizeInGB")
    found = {member: first[member] for member in members if member in first}
    return {**found, **({"VolumeKmsKeyId": given["VolumeKmsKeyId"]} if "VolumeKmsKeyId" in given else {})}
