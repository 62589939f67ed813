"""The JSON files that a training program finds in its config folder.

Sources: SageMaker developer guide, "How Amazon SageMaker Provides Training Information"; smdebug,
core/config_constants.py and profiler/profiler_config_parser.py, for the debugger's and profiler's files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.emulator.training.channels import Channel

GROUP = "homogeneousCluster"  # the name that SageMaker gives the hosts of a job without InstanceGroups
TENSORS, TENSORBOARD, PROFILER = "output/tensors", "output/tensorboard", "output/profiler"  # default LocalPaths


@dataclass(frozen=True)
class Host:
    """One instance of a job."""

    name: str  # algo-1, algo-2, …
    group: str
    instance_type: str


def read_hosts(request: Mapping[str, Any]) -> list[Host]:
    """The instances that a request asks for, in the order of their names."""
    resources = request.get("ResourceConfig", {})
    groups = resources.get("InstanceGroups") or [
        {
            "InstanceGroupName": GROUP,
            "InstanceType": resources.get("InstanceType") or "local",
            "InstanceCount": resources.get("InstanceCount") or 1,
        }
    ]
    wanted = [(g["InstanceGroupName"], g["InstanceType"]) for g in groups for _ in range(g["InstanceCount"])]
    return [Host(f"algo-{number}", group, kind) for number, (group, kind) in enumerate(wanted, 1)]


def config_files(
    document: Mapping[str, Any],
    channels: list[Channel],
    host: Host,
    hosts: list[Host],
    *,
    interface: str,
    seen: Callable[[str], str],
    local_paths: Mapping[str, str],
) -> dict[str, Any]:
    """The files by name, each as its content.

    Args:
        document: the training job.
        channels: those that this host gets.
        host: whose files they are.
        hosts: all of the job.
        interface: the network interface that joins them.
        seen: what the program calls a path of the container.
        local_paths: the container's folder for each of CheckpointConfig, DebugHookConfig, TensorBoardOutputConfig and
            ProfilerConfig that the request has.
    """
    files: dict[str, Any] = {
        "hyperparameters.json": {name: str(value) for name, value in document.get("HyperParameters", {}).items()},
        "inputdataconfig.json": {channel.name: _channel(channel) for channel in channels},
        "resourceconfig.json": _resources(host, hosts, interface),
    }
    names = {
        "CheckpointConfig": "checkpointconfig.json",
        "DebugHookConfig": "debughookconfig.json",
        "TensorBoardOutputConfig": "tensorboardoutputconfig.json",
    }
    for member, name in names.items():
        if document.get(member):
            files[name] = {**document[member], "LocalPath": seen(local_paths[member])}
    if document.get("ProfilerConfig"):
        files["profilerconfig.json"] = _profiler(document["ProfilerConfig"], seen(local_paths["ProfilerConfig"]))
    return files


def _channel(channel: Channel) -> dict[str, str]:
    entry = {
        "TrainingInputMode": channel.input_mode,
        "S3DistributionType": channel.distribution,
        "RecordWrapperType": channel.record_wrapper,
    }
    return entry | ({"ContentType": channel.content_type} if channel.content_type else {})


def _resources(host: Host, hosts: list[Host], interface: str) -> dict[str, Any]:
    groups = {one.group: one.instance_type for one in hosts}
    return {
        "current_host": host.name,
        "current_instance_type": host.instance_type,
        "current_group_name": host.group,
        "hosts": sorted(one.name for one in hosts),
        "instance_groups": [
            {
                "instance_group_name": group,
                "instance_type": kind,
                "hosts": sorted(one.name for one in hosts if one.group == group),
            }
            for group, kind in groups.items()
        ],
        "network_interface_name": interface,
    }


def _profiler(config: Mapping[str, Any], local_path: str) -> dict[str, Any]:
    """ProfilingParameters stay empty where the request's are: smdebug takes that for a profiler that is off."""
    parameters = config.get("ProfilingParameters") or {}
    return {**config, "ProfilingParameters": {**parameters, "LocalPath": local_path} if parameters else {}}
