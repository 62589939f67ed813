"""The requests: plain dictionaries of the SageMaker API, made from values. Nothing here sends anything.

Sources: the API reference of each operation; botocore's service model is what tests hold every request against.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kennel.contract.hyperparameters import canonical, parse_hyperparameters
from kennel.contract.metrics import metric_definitions

Request = dict[str, Any]
VARIANT = "AllTraffic"  # the SDK's name of an only variant
_MB_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Channel:
    """A named input folder of a training job."""

    name: str
    uri: str
    input_mode: str = "File"  # File, FastFile or Pipe
    distribution: str = "FullyReplicated"  # or ShardedByS3Key
    data_type: str = "S3Prefix"  # or ManifestFile, AugmentedManifestFile


@dataclass(frozen=True)
class Machines:
    """What a job or an endpoint runs on."""

    instance_type: str
    instance_count: int = 1
    volume_gb: int = 30
    keep_alive_s: int = 0  # a warm pool, for the next job of the same kind


@dataclass(frozen=True)
class Security:
    """Network and keys, passed through as they are."""

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    network_isolation: bool = False
    encrypt_traffic: bool = False  # between the hosts of one job
    volume_kms_key: str = ""
    output_kms_key: str = ""


@dataclass(frozen=True)
class Training:
    """A training job."""

    name: str
    image: str
    role: str
    channels: tuple[Channel, ...]
    output_uri: str
    machines: Machines
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    max_runtime_s: int = 86_400
    spot: bool = False
    max_wait_s: int = 0  # runtime and the wait for a spot machine together; 0: twice max_runtime_s
    checkpoint_uri: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    security: Security = Security()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """An artifact and the image that serves it."""

    name: str
    image: str
    role: str
    artifact_uri: str
    environment: Mapping[str, str] = field(default_factory=dict)
    security: Security = Security()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Serverless:
    """An endpoint that runs only while it is asked."""

    memory_mb: int = 4096  # 1024 to 6144 in steps of 1024
    max_concurrency: int = 5


@dataclass(frozen=True)
class Async:
    """An endpoint that takes its requests from storage and leaves the answers there."""

    output_uri: str
    max_concurrent: int = 4  # requests of one instance at a time


@dataclass(frozen=True)
class Capture:
    """Requests and answers of an endpoint, kept as JSON lines."""

    output_uri: str
    percentage: int = 100


@dataclass(frozen=True)
class Hosting:
    """An endpoint's configuration: one model, one variant."""

    name: str
    model: str
    machines: Machines
    serverless: Serverless | None = None
    asynchronous: Async | None = None
    capture: Capture | None = None
    startup_timeout_s: int = 240
    volume_kms_key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Transform:
    """A model over every object below a prefix."""

    name: str
    model: str
    input_uri: str
    output_uri: str
    machines: Machines
    content_type: str = "application/octet-stream"
    accept: str = "application/json"
    max_concurrent: int = 4
    max_payload_mb: int = 6
    security: Security = Security()
    tags: Mapping[str, str] = field(default_factory=dict)


def unique_name(kind: str, at: datetime | None = None, tail: str | None = None) -> str:
    """`kennel-KIND-YYYYmmdd-HHMMSS-xxxx`: sorts by time, and two in one second do not meet.

    Args:
        kind: what it is a name of, such as `train`.
        at: now in UTC, unless given.
        tail: four random hexadecimal digits, unless given.
    """
    moment = at or datetime.now(UTC)
    return f"kennel-{kind}-{moment:%Y%m%d-%H%M%S}-{tail or secrets.token_hex(2)}"


def hyperparameter_strings(values: Mapping[str, Any]) -> dict[str, str]:
    """Hyperparameters as the API takes them, checked by the table that the trainer itself reads.

    Raises:
        ConfigError: unknown names and bad values, all of them.
    """
    texts = {
        name: ("on" if value else "off") if isinstance(value, bool) else str(value)  # TOML's and Python's true
        for name, value in values.items()
    }
    parse_hyperparameters(texts)
    return canonical(texts)


def create_training_job(job: Training) -> Request:
    """CreateTrainingJob."""
    request: Request = {
        "TrainingJobName": job.name,
        "AlgorithmSpecification": {
            "TrainingImage": job.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        "RoleArn": job.role,
        "HyperParameters": hyperparameter_strings(job.hyperparameters),
        "InputDataConfig": [_channel(channel) for channel in job.channels],
        "OutputDataConfig": {"S3OutputPath": job.output_uri, **_key("KmsKeyId", job.security.output_kms_key)},
        "ResourceConfig": _resources(job),
        "StoppingCondition": {"MaxRuntimeInSeconds": job.max_runtime_s},
        "EnableNetworkIsolation": job.security.network_isolation,
        "EnableInterContainerTrafficEncryption": job.security.encrypt_traffic,
        "EnableManagedSpotTraining": job.spot,
        **_vpc(job.security),
        **_tags(job.tags),
    }
    if job.spot:
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = job.max_wait_s or 2 * job.max_runtime_s
    if job.checkpoint_uri:
        request["CheckpointConfig"] = {"S3Uri": job.checkpoint_uri}
    if job.environment:
        request["Environment"] = dict(job.environment)
    return request


def _channel(channel: Channel) -> Request:
    source = {
        "S3DataType": channel.data_type,
        "S3Uri": channel.uri,
        "S3DataDistributionType": channel.distribution,
    }
    return {"ChannelName": channel.name, "InputMode": channel.input_mode, "DataSource": {"S3DataSource": source}}


def _resources(job: Training) -> Request:
    machines = job.machines
    return {
        "InstanceType": machines.instance_type,
        "InstanceCount": machines.instance_count,
        "VolumeSizeInGB": machines.volume_gb,
        **_key("VolumeKmsKeyId", job.security.volume_kms_key),
        **({"KeepAlivePeriodInSeconds": machines.keep_alive_s} if machines.keep_alive_s else {}),
    }


def create_model(model: Model) -> Request:
    """CreateModel."""
    container: Request = {"Image": model.image, "ModelDataUrl": model.artifact_uri}
    if model.environment:
        container["Environment"] = dict(model.environment)
    return {
        "ModelName": model.name,
        "PrimaryContainer": container,
        "ExecutionRoleArn": model.role,
        "EnableNetworkIsolation": model.security.network_isolation,
        **_vpc(model.security),
        **_tags(model.tags),
    }


def create_endpoint_config(hosting: Hosting) -> Request:
    """CreateEndpointConfig."""
    request: Request = {
        "EndpointConfigName": hosting.name,
        "ProductionVariants": [_variant(hosting)],
        **_key("KmsKeyId", hosting.volume_kms_key),
        **_tags(hosting.tags),
    }
    if hosting.asynchronous:
        request["AsyncInferenceConfig"] = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": hosting.asynchronous.max_concurrent},
            "OutputConfig": {"S3OutputPath": hosting.asynchronous.output_uri},
        }
    if hosting.capture:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": hosting.capture.percentage,
            "DestinationS3Uri": hosting.capture.output_uri,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
    return request


def _variant(hosting: Hosting) -> Request:
    variant: Request = {"VariantName": VARIANT, "ModelName": hosting.model, "InitialVariantWeight": 1.0}
    if hosting.serverless:
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": hosting.serverless.memory_mb,
            "MaxConcurrency": hosting.serverless.max_concurrency,
        }
        return variant
    return {
        **variant,
        "InstanceType": hosting.machines.instance_type,
        "InitialInstanceCount": hosting.machines.instance_count,
        "ContainerStartupHealthCheckTimeoutInSeconds": hosting.startup_timeout_s,
    }


def create_endpoint(name: str, config: str, tags: Mapping[str, str] | None = None) -> Request:
    """CreateEndpoint."""
    return {"EndpointName": name, "EndpointConfigName": config, **_tags(tags or {})}


def update_endpoint(name: str, config: str) -> Request:
    """UpdateEndpoint: the new configuration takes over when it is healthy."""
    return {"EndpointName": name, "EndpointConfigName": config}


def create_transform_job(job: Transform) -> Request:
    """CreateTransformJob: one object of the prefix is one request to the model."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": job.input_uri}}
    return {
        "TransformJobName": job.name,
        "ModelName": job.model,
        "MaxConcurrentTransforms": job.max_concurrent,
        "MaxPayloadInMB": job.max_payload_mb,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": source,
            "ContentType": job.content_type,
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": job.output_uri,
            "Accept": job.accept,
            "AssembleWith": "None",
            **_key("KmsKeyId", job.security.output_kms_key),
        },
        "TransformResources": {
            "InstanceType": job.machines.instance_type,
            "InstanceCount": job.machines.instance_count,
            **_key("VolumeKmsKeyId", job.security.volume_kms_key),
        },
        **_tags(job.tags),
    }


_NAME_MEMBER = {
    "training-job": "TrainingJobName",
    "tuning-job": "HyperParameterTuningJobName",
    "transform-job": "TransformJobName",
    "model": "ModelName",
    "endpoint-config": "EndpointConfigName",
    "endpoint": "EndpointName",
}


def by_name(kind: str, name: str) -> Request:
    """What Describe, Stop and Delete take: the name alone."""
    return {_NAME_MEMBER[kind]: name}


def register_scalable_target(endpoint: str, low: int, high: int) -> Request:
    """Application Auto Scaling: RegisterScalableTarget for the instances of an endpoint's variant."""
    return {**_scalable(endpoint), "MinCapacity": low, "MaxCapacity": high}


def put_scaling_policy(endpoint: str, invocations_per_instance: float) -> Request:
    """Application Auto Scaling: PutScalingPolicy, target tracking of the invocations a minute of each instance."""
    return {
        **_scalable(endpoint),
        "PolicyName": f"{endpoint}-invocations"[:255],
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": invocations_per_instance,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
            "ScaleInCooldown": 300,
            "ScaleOutCooldown": 60,
        },
    }


def deregister_scalable_target(endpoint: str) -> Request:
    """Application Auto Scaling: DeregisterScalableTarget; its policies go with it."""
    return _scalable(endpoint)


def _scalable(endpoint: str) -> Request:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def payload_mb(largest_bytes: int) -> int:
    """MaxPayloadInMB for objects of this size: whole megabytes, at least the default of 6."""
    return max(6, -(-largest_bytes // _MB_BYTES))


def _key(member: str, value: str) -> Request:
    return {member: value} if value else {}


def _vpc(security: Security) -> Request:
    if not security.subnets:
        return {}
    return {
        "VpcConfig": {"Subnets": list(security.subnets), "SecurityGroupIds": list(security.security_groups)},
    }


def _tags(tags: Mapping[str, str]) -> Request:
    return {"Tags": pairs(tags)} if tags else {}


def pairs(tags: Mapping[str, str]) -> Sequence[dict[str, str]]:
    """Tags as the API lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
