"""The tables of coverage.py: for each request, members by treatment and reason; `Name.*` is all below Name.

What is honoured is named member by member: a new member of AWS's model makes a test fail until somebody decides.
"""

from __future__ import annotations

from collections.abc import Mapping

Table = Mapping[str, Mapping[str, str]]

_NO_KMS = "there is no key service here; what is written is as safe as its folder"
_NO_IAM = "there are no roles here; S3 is read and written with the credentials of whoever started the emulator"
_NO_VPC = "there are no VPCs here"
_NO_EXPERIMENTS = "experiments and MLflow are not emulated; the job runs without them"
_NO_HUB = "hubs and their licences need AWS; send an S3 or file:// URI of your own"
_ONE_MACHINE = "everything runs on this machine"
_RULES_ARE_PROCESSES = "a rule is a process of this machine, beside the job; only its S3 output counts"
_NO_SNS = "there are no topics here; look at OutputLocation and FailureLocation"
_NO_REGISTRY_AUTH = "docker's own login is used"

_TRAINING: Table = {
    "honoured": {
        "TrainingJobName HyperParameters Environment Tags Tags.Key Tags.Value": "",
        "AlgorithmSpecification.TrainingImage AlgorithmSpecification.TrainingInputMode": "",
        "AlgorithmSpecification.ContainerEntrypoint AlgorithmSpecification.ContainerArguments": "",
        "AlgorithmSpecification.MetricDefinitions AlgorithmSpecification.MetricDefinitions.Name": "",
        "AlgorithmSpecification.MetricDefinitions.Regex AlgorithmSpecification.EnableSageMakerMetricsTimeSeries": "",
        "InputDataConfig InputDataConfig.ChannelName InputDataConfig.ContentType InputDataConfig.CompressionType": "",
        "InputDataConfig.RecordWrapperType InputDataConfig.InputMode InputDataConfig.ShuffleConfig.Seed": "",
        "InputDataConfig.DataSource.S3DataSource.S3DataType InputDataConfig.DataSource.S3DataSource.S3Uri": "",
        "InputDataConfig.DataSource.S3DataSource.S3DataDistributionType": "",
        "InputDataConfig.DataSource.S3DataSource.AttributeNames": "",
        "OutputDataConfig.S3OutputPath OutputDataConfig.CompressionType": "",
        "ResourceConfig.InstanceCount ResourceConfig.InstanceGroups ResourceConfig.InstanceGroups.InstanceCount": "",
        "ResourceConfig.InstanceGroups.InstanceGroupName ResourceConfig.InstanceGroups.InstanceType": "",
        "InputDataConfig.DataSource.S3DataSource.InstanceGroupNames RetryStrategy.MaximumRetryAttempts": "",
        "EnableNetworkIsolation ResourceConfig.KeepAlivePeriodInSeconds": "",
        "StoppingCondition.MaxRuntimeInSeconds StoppingCondition.MaxWaitTimeInSeconds EnableManagedSpotTraining": "",
        "CheckpointConfig.S3Uri CheckpointConfig.LocalPath": "",
        "DebugHookConfig.LocalPath DebugHookConfig.S3OutputPath DebugHookConfig.HookParameters": "",
        "DebugHookConfig.CollectionConfigurations DebugHookConfig.CollectionConfigurations.CollectionName": "",
        "DebugHookConfig.CollectionConfigurations.CollectionParameters": "",
        "TensorBoardOutputConfig.LocalPath TensorBoardOutputConfig.S3OutputPath": "",
        "ProfilerConfig.S3OutputPath ProfilerConfig.ProfilingIntervalInMilliseconds": "",
        "ProfilerConfig.ProfilingParameters ProfilerConfig.DisableProfiler": "",
        "DebugRuleConfigurations DebugRuleConfigurations.RuleConfigurationName": "",
        "DebugRuleConfigurations.RuleEvaluatorImage DebugRuleConfigurations.RuleParameters": "",
        "DebugRuleConfigurations.S3OutputPath": "",
        "ProfilerRuleConfigurations ProfilerRuleConfigurations.RuleConfigurationName": "",
        "ProfilerRuleConfigurations.RuleEvaluatorImage ProfilerRuleConfigurations.RuleParameters": "",
        "ProfilerRuleConfigurations.S3OutputPath": "",
    },
    "recorded": {
        "RoleArn": _NO_IAM,
        "VpcConfig.*": _NO_VPC,
        "OutputDataConfig.KmsKeyId ResourceConfig.VolumeKmsKeyId": _NO_KMS,
        "EnableInterContainerTrafficEncryption": "the hosts of a job share one machine; nothing leaves it",
        "ResourceConfig.InstanceType": "a job has all cores and the memory of this machine",
        "ResourceConfig.VolumeSizeInGB": "a job has the disk of this machine",
        "StoppingCondition.MaxPendingTimeInSeconds": "a job never waits for capacity here",
        "AlgorithmSpecification.TrainingImageConfig.*": _NO_REGISTRY_AUTH,
        "InputDataConfig.DataSource.S3DataSource.ModelAccessConfig.*": "no licence is asked for here",
        "ExperimentConfig.* MlflowConfig.*": _NO_EXPERIMENTS,
        "DebugRuleConfigurations.LocalPath ProfilerRuleConfigurations.LocalPath": _RULES_ARE_PROCESSES,
        "DebugRuleConfigurations.InstanceType ProfilerRuleConfigurations.InstanceType": _RULES_ARE_PROCESSES,
        "DebugRuleConfigurations.VolumeSizeInGB ProfilerRuleConfigurations.VolumeSizeInGB": _RULES_ARE_PROCESSES,
        "RemoteDebugConfig.*": "attach with docker exec, or to the process, instead of SSM",
        "InfraCheckConfig.*": "there is one machine, and it has been checked by starting on it",
        "SessionChainingConfig.*": "there are no sessions here",
    },
    "refused": {
        "AlgorithmSpecification.AlgorithmName": "algorithms of the marketplace need AWS; send TrainingImage",
        "InputDataConfig.DataSource.S3DataSource.HubAccessConfig.*": _NO_HUB,
        "InputDataConfig.DataSource.FileSystemDataSource.*": "send S3DataSource with a file:// URI of the folder",
        "InputDataConfig.DataSource.DatasetSource.*": "send S3DataSource with the data's own URI",
        "ResourceConfig.TrainingPlanArn": "training plans reserve machines of AWS; leave it out",
        "ResourceConfig.InstancePlacementConfig.*": f"{_ONE_MACHINE}; leave it out",
        "ResourceConfig.InstancePreferences ResourceConfig.InstancePreferences.*": "send InstanceType, InstanceCount",
        "ResourceConfig.SelectedInstanceType ResourceConfig.SelectedInstanceCount": "SageMaker sets these; omit them",
        "ServerlessJobConfig.*": "AWS's own recipes need AWS; send AlgorithmSpecification and ResourceConfig",
        "ModelPackageConfig.*": "there is no model registry here; leave it out and take the artifact",
    },
}


def _container(prefix: str) -> dict[str, dict[str, str]]:
    source = f"{prefix}.ModelDataSource.S3DataSource"
    return {
        "honoured": {
            f"{prefix}.Image {prefix}.Mode {prefix}.ModelDataUrl {prefix}.Environment": "",
            f"{prefix}.MultiModelConfig.ModelCacheSetting": "",
            f"{source}.S3Uri {source}.S3DataType {source}.CompressionType": "",
        },
        "recorded": {
            f"{prefix}.ContainerHostname": "a model has one container here, which nothing calls by name",
            f"{prefix}.ImageConfig.*": _NO_REGISTRY_AUTH,
            f"{source}.ModelAccessConfig.*": "no licence is asked for here",
            f"{source}.ETag {source}.ManifestEtag": "the data is taken as it is",
            f"{prefix}.ContainerMetricsConfig.*": "a container's metrics are not collected; ask it for them",
        },
        "refused": {
            f"{source}.HubAccessConfig.*": _NO_HUB,
            f"{source}.ManifestS3Uri": "send S3Uri of the model itself",
            f"{prefix}.AdditionalModelDataSources {prefix}.AdditionalModelDataSources.*": "put all into ModelDataUrl",
            f"{prefix}.ModelPackageName {prefix}.InferenceSpecificationName": "no model registry; send Image",
        },
    }


def _joined(*tables: Table) -> Table:
    treatments = ("honoured", "recorded", "refused")
    return {name: {paths: why for table in tables for paths, why in table.get(name, {}).items()} for name in treatments}


_MODEL = _joined(
    _container("PrimaryContainer"),
    _container("Containers"),
    {
        "honoured": {"ModelName Containers EnableNetworkIsolation Tags Tags.Key Tags.Value": ""},
        "recorded": {
            "ExecutionRoleArn": _NO_IAM,
            "VpcConfig.*": _NO_VPC,
            "InferenceExecutionConfig.*": "a model has one container here, which is called directly",
        },
    },
)

_ENDPOINT_CONFIG: Table = {
    "honoured": {
        "EndpointConfigName ProductionVariants EnableNetworkIsolation Tags Tags.Key Tags.Value": "",
        "ProductionVariants.VariantName ProductionVariants.ModelName ProductionVariants.InitialInstanceCount": "",
        "ProductionVariants.InitialVariantWeight ProductionVariants.ServerlessConfig.MaxConcurrency": "",
        "ProductionVariants.ContainerStartupHealthCheckTimeoutInSeconds": "",
        "ProductionVariants.RoutingConfig.RoutingStrategy": "",
        "DataCaptureConfig.EnableCapture DataCaptureConfig.InitialSamplingPercentage": "",
        "DataCaptureConfig.DestinationS3Uri DataCaptureConfig.CaptureOptions": "",
        "DataCaptureConfig.CaptureOptions.CaptureMode": "",
        "DataCaptureConfig.CaptureContentTypeHeader.CsvContentTypes": "",
        "DataCaptureConfig.CaptureContentTypeHeader.JsonContentTypes": "",
        "AsyncInferenceConfig.ClientConfig.MaxConcurrentInvocationsPerInstance": "",
        "AsyncInferenceConfig.OutputConfig.S3OutputPath AsyncInferenceConfig.OutputConfig.S3FailurePath": "",
    },
    "recorded": {
        "ProductionVariants.InstanceType": "a container has all cores and the memory of this machine",
        "ProductionVariants.ModelDataDownloadTimeoutInSeconds": "a download may take as long as it takes",
        "ProductionVariants.VolumeSizeInGB": "a container has the disk of this machine",
        "ProductionVariants.VariantInstanceProvisionTimeoutInSeconds": "an instance never waits for capacity here",
        "ProductionVariants.ServerlessConfig.MemorySizeInMB": "a container has the memory of this machine",
        "ProductionVariants.ServerlessConfig.ProvisionedConcurrency": "containers stay started here",
        "ProductionVariants.InferenceAmiVersion ProductionVariants.CapacityReservationConfig.*": _ONE_MACHINE,
        "ProductionVariants.EnableSSMAccess": "enter with docker exec instead of SSM",
        "ProductionVariants.ManagedInstanceScaling.*": "instances are as many as InitialInstanceCount, or as updated",
        "ProductionVariants.RoutingConfig.PrefixAwareRoutingConfig.*": "requests go to the least busy, or at random",
        "DataCaptureConfig.KmsKeyId AsyncInferenceConfig.OutputConfig.KmsKeyId KmsKeyId": _NO_KMS,
        "AsyncInferenceConfig.OutputConfig.NotificationConfig.SuccessTopic": _NO_SNS,
        "AsyncInferenceConfig.OutputConfig.NotificationConfig.ErrorTopic": _NO_SNS,
        "AsyncInferenceConfig.OutputConfig.NotificationConfig.IncludeInferenceResponseIn": _NO_SNS,
        "ExecutionRoleArn": _NO_IAM,
        "VpcConfig.*": _NO_VPC,
        "MetricsConfig.*": "no metrics of endpoints are published; ask the containers",
        "CrossRegionTrafficConfig.*": "there is one region here",
    },
    "refused": {
        "ProductionVariants.InstancePools ProductionVariants.InstancePools.*": "send InstanceType and ModelName",
        "ProductionVariants.AcceleratorType": "Elastic Inference has ended; leave it out",
        "ProductionVariants.AcceleratorPartitionLayouts ProductionVariants.AcceleratorPartitionLayouts.*": (
            f"{_ONE_MACHINE}, its GPU is not divided; leave it out"
        ),
        "ProductionVariants.CoreDumpConfig.*": "core dumps are not uploaded; leave it out",
        "ExplainerConfig.*": "Clarify is not emulated; leave it out",
        "ShadowProductionVariants ShadowProductionVariants.*": "shadow variants are not emulated; leave them out",
    },
}

_DEPLOYMENT = {
    "DeploymentConfig.BlueGreenUpdatePolicy.* DeploymentConfig.RollingUpdatePolicy.*": (
        "an update starts the new containers, moves all requests, and then ends the old ones"
    ),
    "DeploymentConfig.AutoRollbackConfiguration.*": "there are no alarms here; new containers that fail are not used",
}
_ENDPOINT: Table = {
    "honoured": {"EndpointName EndpointConfigName Tags Tags.Key Tags.Value": ""},
    "recorded": _DEPLOYMENT,
}
_ENDPOINT_UPDATE: Table = {
    "honoured": {
        "EndpointName EndpointConfigName RetainAllVariantProperties ExcludeRetainedVariantProperties": "",
        "ExcludeRetainedVariantProperties.VariantPropertyType": "",
    },
    "recorded": {**_DEPLOYMENT, "RetainDeploymentConfig": "deployments have one form here"},
}

_ENDPOINT_WEIGHTS: Table = {
    "honoured": {
        "EndpointName DesiredWeightsAndCapacities DesiredWeightsAndCapacities.VariantName": "",
        "DesiredWeightsAndCapacities.DesiredWeight DesiredWeightsAndCapacities.DesiredInstanceCount": "",
    },
    "recorded": {},
    "refused": {
        "DesiredWeightsAndCapacities.ServerlessUpdateConfig.*": "containers stay started here; update the endpoint",
    },
}
_INVOCATION: Table = {
    "honoured": {
        "EndpointName Body ContentType Accept CustomAttributes TargetModel TargetVariant InferenceId": "",
    },
    "recorded": {"PrefixAwareId": "requests go to the least busy instance, or to each in turn"},
    "refused": {
        "TargetContainerHostname": "a model has one container here; leave it out",
        "InferenceComponentName": "there are no inference components here; leave it out",
        "SessionId": "there are no stateful sessions here; leave it out",
        "EnableExplanations": "Clarify is not emulated; leave it out",
    },
}
_ASYNC_INVOCATION: Table = {
    "honoured": {
        "EndpointName Body InputLocation ContentType Accept CustomAttributes InferenceId": "",
        "RequestTTLSeconds InvocationTimeoutSeconds S3OutputPathExtension Filename": "",
    },
}

_TRANSFORM: Table = {
    "honoured": {
        "TransformJobName ModelName Environment Tags Tags.Key Tags.Value": "",
        "MaxConcurrentTransforms MaxPayloadInMB BatchStrategy": "",
        "ModelClientConfig.InvocationsTimeoutInSeconds ModelClientConfig.InvocationsMaxRetries": "",
        "TransformInput.DataSource.S3DataSource.S3DataType TransformInput.DataSource.S3DataSource.S3Uri": "",
        "TransformInput.ContentType TransformInput.CompressionType TransformInput.SplitType": "",
        "TransformOutput.S3OutputPath TransformOutput.Accept TransformOutput.AssembleWith": "",
        "TransformResources.InstanceCount": "",
        "DataProcessing.InputFilter DataProcessing.OutputFilter DataProcessing.JoinSource": "",
    },
    "recorded": {
        "TransformOutput.KmsKeyId TransformResources.VolumeKmsKeyId": _NO_KMS,
        "TransformResources.InstanceType": "a job has all cores and the memory of this machine",
        "TransformResources.TransformAmiVersion": _ONE_MACHINE,
        "ExperimentConfig.*": _NO_EXPERIMENTS,
    },
    "refused": {
        "DataCaptureConfig.*": "a transform's inputs and outputs are files already; leave it out",
    },
}

_CONFIG = "HyperParameterTuningJobConfig"
_RANGES = " ".join(
    path
    for kind in ("Integer", "Continuous")
    for path in [f"{kind}ParameterRanges"]
    + [f"{kind}ParameterRanges.{member}" for member in ("Name", "MinValue", "MaxValue", "ScalingType")]
) + (
    " CategoricalParameterRanges CategoricalParameterRanges.Name CategoricalParameterRanges.Values"
    " AutoParameters AutoParameters.Name AutoParameters.ValueHint"
)


_NOT_OF_A_TRIAL = (  # the members of a training job that no training job definition has
    "TrainingJobName", "HyperParameters", "Tags", "Debug", "Profiler", "TensorBoard", "Experiment", "Mlflow",
    "RemoteDebug", "InfraCheck", "SessionChaining", "Serverless", "ModelPackage", "AlgorithmSpecification.Container",
    "AlgorithmSpecification.EnableSageMaker", "AlgorithmSpecification.TrainingImageConfig",
)  # fmt: skip


def _below(prefix: str, paths: str) -> str:
    return " ".join(f"{prefix}.{path}" for path in paths.split())


def _trial_definition(prefix: str) -> Table:
    """What a training job definition has of a training job is treated alike."""
    table: dict[str, dict[str, str]] = {}
    for treatment, groups in _TRAINING.items():
        table[treatment] = {}
        for paths, reason in groups.items():
            kept = [path for path in paths.split() if not path.startswith(_NOT_OF_A_TRIAL)]
            if kept:
                table[treatment][_below(prefix, " ".join(kept))] = reason
    return table


def _tuned_definition(prefix: str) -> Table:
    flexible = f"{prefix}.HyperParameterTuningResourceConfig"
    return _joined(
        _trial_definition(prefix),
        {
            "honoured": {
                _below(
                    prefix, "DefinitionName StaticHyperParameters TuningObjective.Type TuningObjective.MetricName"
                ): "",
                _below(f"{prefix}.HyperParameterRanges", _RANGES): "",
                _below(flexible, "InstanceCount InstanceConfigs InstanceConfigs.InstanceCount AllocationStrategy"): "",
            },
            "recorded": {
                _below(flexible, "InstanceType InstanceConfigs.InstanceType"): (
                    "a job has all cores and the memory of this machine; of several configurations the first is used"
                ),
                _below(flexible, "VolumeSizeInGB InstanceConfigs.VolumeSizeInGB"): "a job has the disk of this machine",
                f"{flexible}.VolumeKmsKeyId": _NO_KMS,
            },
        },
    )


_TUNING = _joined(
    {
        "honoured": {
            "HyperParameterTuningJobName Tags Tags.Key Tags.Value TrainingJobDefinitions Autotune.Mode": "",
            _below(_CONFIG, "Strategy TrainingJobEarlyStoppingType RandomSeed"): "",
            _below(f"{_CONFIG}.StrategyConfig.HyperbandStrategyConfig", "MinResource MaxResource"): "",
            _below(f"{_CONFIG}.HyperParameterTuningJobObjective", "Type MetricName"): "",
            _below(
                f"{_CONFIG}.ResourceLimits", "MaxNumberOfTrainingJobs MaxParallelTrainingJobs MaxRuntimeInSeconds"
            ): "",
            _below(f"{_CONFIG}.ParameterRanges", _RANGES): "",
            _below(
                f"{_CONFIG}.TuningJobCompletionCriteria",
                "TargetObjectiveMetricValue BestObjectiveNotImproving.MaxNumberOfTrainingJobsNotImproving "
                "ConvergenceDetected.CompleteOnConvergence",
            ): "",
            "WarmStartConfig.WarmStartType WarmStartConfig.ParentHyperParameterTuningJobs": "",
            "WarmStartConfig.ParentHyperParameterTuningJobs.HyperParameterTuningJobName": "",
        },
    },
    _tuned_definition("TrainingJobDefinition"),
    _tuned_definition("TrainingJobDefinitions"),
)

TABLES: Mapping[str, Table] = {
    "CreateTrainingJob": _TRAINING,
    "CreateModel": _MODEL,
    "CreateEndpointConfig": _ENDPOINT_CONFIG,
    "CreateEndpoint": _ENDPOINT,
    "UpdateEndpoint": _ENDPOINT_UPDATE,
    "UpdateEndpointWeightsAndCapacities": _ENDPOINT_WEIGHTS,
    "InvokeEndpoint": _INVOCATION,
    "InvokeEndpointAsync": _ASYNC_INVOCATION,
    "CreateTransformJob": _TRANSFORM,
    "CreateHyperParameterTuningJob": _TUNING,
}
