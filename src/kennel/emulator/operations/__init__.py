"""The operations of the API, by service and name: each takes a checked request and gives a document.

The answer is cut to the operation's output shape afterwards, so that a whole document may be returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kennel.emulator.documents.names import Request
from kennel.emulator.operations import (
    endpoint_configs,
    endpoints,
    identity,
    logs,
    metrics,
    models,
    tags,
    training_jobs,
    transform_jobs,
    tuning_jobs,
)
from kennel.emulator.operations.context import Context
from kennel.emulator.state.store import Document

Operation = Callable[[Context, Request], Document]

OPERATIONS: Mapping[str, Mapping[str, Operation]] = {  # of each service, as botocore names it
    "sagemaker": {
        "CreateTrainingJob": training_jobs.create_training_job,
        "DescribeTrainingJob": training_jobs.describe_training_job,
        "ListTrainingJobs": training_jobs.list_training_jobs,
        "StopTrainingJob": training_jobs.stop_training_job,
        "DeleteTrainingJob": training_jobs.delete_training_job,
        "CreateHyperParameterTuningJob": tuning_jobs.create_hyper_parameter_tuning_job,
        "DescribeHyperParameterTuningJob": tuning_jobs.describe_hyper_parameter_tuning_job,
        "ListHyperParameterTuningJobs": tuning_jobs.list_hyper_parameter_tuning_jobs,
        "StopHyperParameterTuningJob": tuning_jobs.stop_hyper_parameter_tuning_job,
        "DeleteHyperParameterTuningJob": tuning_jobs.delete_hyper_parameter_tuning_job,
        "ListTrainingJobsForHyperParameterTuningJob": tuning_jobs.list_training_jobs_for_hyper_parameter_tuning_job,
        "CreateTransformJob": transform_jobs.create_transform_job,
        "DescribeTransformJob": transform_jobs.describe_transform_job,
        "ListTransformJobs": transform_jobs.list_transform_jobs,
        "StopTransformJob": transform_jobs.stop_transform_job,
        "CreateModel": models.create_model,
        "DescribeModel": models.describe_model,
        "ListModels": models.list_models,
        "DeleteModel": models.delete_model,
        "CreateEndpointConfig": endpoint_configs.create_endpoint_config,
        "DescribeEndpointConfig": endpoint_configs.describe_endpoint_config,
        "ListEndpointConfigs": endpoint_configs.list_endpoint_configs,
        "DeleteEndpointConfig": endpoint_configs.delete_endpoint_config,
        "CreateEndpoint": endpoints.create_endpoint,
        "DescribeEndpoint": endpoints.describe_endpoint,
        "ListEndpoints": endpoints.list_endpoints,
        "UpdateEndpoint": endpoints.update_endpoint,
        "UpdateEndpointWeightsAndCapacities": endpoints.update_endpoint_weights_and_capacities,
        "DeleteEndpoint": endpoints.delete_endpoint,
        "AddTags": tags.add_tags,
        "ListTags": tags.list_tags,
        "DeleteTags": tags.delete_tags,
    },
    "logs": {
        "DescribeLogGroups": logs.describe_log_groups,
        "DescribeLogStreams": logs.describe_log_streams,
        "GetLogEvents": logs.get_log_events,
        "FilterLogEvents": logs.filter_log_events,
    },
    "cloudwatch": {
        "ListMetrics": metrics.list_metrics,
        "GetMetricStatistics": metrics.get_metric_statistics,
        "GetMetricData": metrics.get_metric_data,
    },
    "sts": {"GetCallerIdentity": identity.get_caller_identity},
}
