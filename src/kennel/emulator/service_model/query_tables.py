"""What becomes of every member of the requests that read, stop, delete and tag, as in coverage_tables.py.

A new member of AWS's model makes a test fail until somebody decides about it.
"""

from __future__ import annotations

from collections.abc import Mapping

from kennel.emulator.service_model.coverage_tables import Table

_PAGE = "NextToken MaxResults SortBy SortOrder NameContains CreationTimeAfter CreationTimeBefore"
_BY_CHANGE = "LastModifiedTimeAfter LastModifiedTimeBefore StatusEquals"
_ONE_ACCOUNT = "there is one account here; leave it out"
_BY_NAME = {
    "TrainingJobName": "DescribeTrainingJob StopTrainingJob DeleteTrainingJob",
    "HyperParameterTuningJobName": (
        "DescribeHyperParameterTuningJob StopHyperParameterTuningJob DeleteHyperParameterTuningJob"
    ),
    "TransformJobName": "DescribeTransformJob StopTransformJob",
    "ModelName": "DescribeModel DeleteModel",
    "EndpointConfigName": "DescribeEndpointConfig DeleteEndpointConfig",
    "EndpointName": "DescribeEndpoint DeleteEndpoint",
}
_HONOURED = {
    **{operation: member for member, operations in _BY_NAME.items() for operation in operations.split()},
    "ListTrainingJobs": f"{_PAGE} {_BY_CHANGE} WarmPoolStatusEquals TrainingPlanArnEquals",
    "ListHyperParameterTuningJobs": f"{_PAGE} {_BY_CHANGE}",
    "ListTrainingJobsForHyperParameterTuningJob": (
        "HyperParameterTuningJobName NextToken MaxResults StatusEquals SortBy SortOrder"
    ),
    "ListTransformJobs": f"{_PAGE} {_BY_CHANGE}",
    "ListModels": _PAGE,
    "ListEndpointConfigs": _PAGE,
    "ListEndpoints": f"{_PAGE} {_BY_CHANGE}",
    "AddTags": "ResourceArn Tags Tags.Key Tags.Value",
    "ListTags": "ResourceArn NextToken MaxResults",
    "DeleteTags": "ResourceArn TagKeys",
    "GetCallerIdentity": "",
}
_GROUP = "logGroupName logGroupIdentifier nextToken limit"
_METRIC = "MetricDataQueries.MetricStat"

QUERIES: Mapping[str, Table] = {
    **{operation: {"honoured": {members: ""}} for operation, members in _HONOURED.items()},
    "DescribeLogGroups": {
        "honoured": {"logGroupNamePrefix logGroupNamePattern nextToken limit": ""},
        "refused": {
            "accountIdentifiers includeLinkedAccounts": _ONE_ACCOUNT,
            "logGroupIdentifiers": "send logGroupNamePrefix",
            "logGroupClass": "all groups are of one class; leave it out",
        },
    },
    "DescribeLogStreams": {"honoured": {f"{_GROUP} logStreamNamePrefix orderBy descending": ""}},
    "GetLogEvents": {"honoured": {f"{_GROUP} logStreamName startTime endTime startFromHead unmask": ""}},
    "FilterLogEvents": {
        "honoured": {
            f"{_GROUP} logStreamNames logStreamNamePrefix startTime endTime filterPattern interleaved unmask": ""
        },
        "refused": {"startFromHead": "the oldest events come first; leave it out"},
    },
    "ListMetrics": {
        "honoured": {"Namespace MetricName Dimensions Dimensions.Name Dimensions.Value NextToken": ""},
        "refused": {
            "RecentlyActive": "all metrics are listed; leave it out",
            "IncludeLinkedAccounts OwningAccount": _ONE_ACCOUNT,
        },
    },
    "GetMetricStatistics": {
        "honoured": {
            "Namespace MetricName Dimensions Dimensions.Name Dimensions.Value StartTime EndTime Period": "",
            "Statistics ExtendedStatistics": "",
        },
        "refused": {"Unit": "a metric has one unit here; leave it out"},
    },
    "GetMetricData": {
        "honoured": {
            "MetricDataQueries MetricDataQueries.Id MetricDataQueries.Label MetricDataQueries.ReturnData": "",
            f"{_METRIC}.Metric.Namespace {_METRIC}.Metric.MetricName {_METRIC}.Metric.Dimensions": "",
            f"{_METRIC}.Metric.Dimensions.Name {_METRIC}.Metric.Dimensions.Value": "",
            f"{_METRIC}.Period {_METRIC}.Stat StartTime EndTime ScanBy MaxDatapoints NextToken": "",
        },
        "refused": {
            f"{_METRIC}.Unit": "a metric has one unit here; leave it out",
            "MetricDataQueries.Expression MetricDataQueries.Period": "expressions are not emulated; send MetricStat",
            "MetricDataQueries.AccountId": _ONE_ACCOUNT,
            "LabelOptions.*": "labels have no times here; leave it out",
        },
    },
}
