"""CloudWatch Logs, CloudWatch metrics and STS through boto3, on logs and metrics that are written while it looks."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kennel.emulator.state.home import Home
from tests.emulator.emulator_harness import Emulator

GROUP = "/aws/sagemaker/TrainingJobs"
START_S = 1_700_000_000


def code_of(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture(scope="module")
def logs(emulator: Emulator) -> Any:
    return emulator.client("logs")


def write(emulator: Emulator, stream: str, messages: list[str], timestamp_ms: int = START_S * 1000) -> None:
    Home(emulator.home).logs.append(GROUP, stream, messages, timestamp_ms)


def messages_of(answer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


def test_a_log_is_followed_to_its_end_and_on(emulator: Emulator, logs: Any) -> None:
    stream = {"logGroupName": GROUP, "logStreamName": "followed/algo-1-1", "startFromHead": True}
    write(emulator, "followed/algo-1-1", [str(n) for n in range(5)])
    first = logs.get_log_events(**stream, limit=3)
    assert messages_of(first) == ["0", "1", "2"]
    second = logs.get_log_events(**stream, limit=3, nextToken=first["nextForwardToken"])
    assert messages_of(second) == ["3", "4"]
    end = logs.get_log_events(**stream, nextToken=second["nextForwardToken"])
    assert (messages_of(end), end["nextForwardToken"]) == ([], second["nextForwardToken"])
    write(emulator, "followed/algo-1-1", ["5"])
    assert messages_of(logs.get_log_events(**stream, nextToken=end["nextForwardToken"])) == ["5"]


def test_a_log_is_read_backwards_from_its_end(emulator: Emulator, logs: Any) -> None:
    write(emulator, "back/algo-1-1", [str(n) for n in range(7)])
    stream = {"logGroupName": GROUP, "logStreamName": "back/algo-1-1", "limit": 3}
    last = logs.get_log_events(**stream)
    assert messages_of(last) == ["4", "5", "6"]
    before = logs.get_log_events(**stream, nextToken=last["nextBackwardToken"])
    assert messages_of(before) == ["1", "2", "3"]
    rest = logs.get_log_events(**stream, nextToken=before["nextBackwardToken"])
    assert messages_of(rest) == ["0"]
    assert messages_of(logs.get_log_events(**stream, nextToken=rest["nextForwardToken"])) == ["1", "2", "3"]


def test_events_of_a_time_are_found(emulator: Emulator, logs: Any) -> None:
    for second in range(4):
        write(emulator, "timed/algo-1-1", [f"at {second}"], (START_S + second) * 1000)
    times = {"startTime": (START_S + 1) * 1000, "endTime": (START_S + 3) * 1000}
    answer = logs.get_log_events(logGroupName=GROUP, logStreamName="timed/algo-1-1", **times)
    assert messages_of(answer) == ["at 1", "at 2"]
    found = logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix="timed/", **times)
    assert messages_of(found) == ["at 1", "at 2"]


def test_an_answer_is_a_megabyte_at_most_and_the_next_goes_on(emulator: Emulator, logs: Any) -> None:
    write(emulator, "large/algo-1-1", [f"{n}" + "x" * 100_000 for n in range(25)])
    stream = {"logGroupName": GROUP, "logStreamName": "large/algo-1-1", "startFromHead": True}
    found, token = [], {}
    while True:
        answer = logs.get_log_events(**stream, **token)
        if not answer["events"]:
            break
        assert sum(map(len, messages_of(answer))) <= 1024 * 1024
        found += messages_of(answer)
        token = {"nextToken": answer["nextForwardToken"]}
    assert [one.rstrip("x") for one in found] == [str(n) for n in range(25)]


def test_streams_are_listed_by_name_by_age_and_in_pages(emulator: Emulator, logs: Any) -> None:
    for number, second in enumerate((30, 10, 20)):
        write(emulator, f"hosts/algo-{number + 1}-1", ["a", "b"], (START_S + second) * 1000)
    listed = {"logGroupName": GROUP, "logStreamNamePrefix": "hosts/"}

    def names(**more: Any) -> list[str]:
        pages = logs.get_paginator("describe_log_streams").paginate(**listed, **more, PaginationConfig={"PageSize": 2})
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]

    assert names() == ["hosts/algo-1-1", "hosts/algo-2-1", "hosts/algo-3-1"]
    assert names(descending=True)[0] == "hosts/algo-3-1"
    del listed["logStreamNamePrefix"]  # CloudWatch takes no prefix with this order
    by_age = [name for name in names(orderBy="LastEventTime", descending=True) if name.startswith("hosts/")]
    assert by_age == ["hosts/algo-1-1", "hosts/algo-3-1", "hosts/algo-2-1"]
    one = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="hosts/algo-1")["logStreams"][0]
    assert (one["firstEventTimestamp"], one["lastEventTimestamp"]) == ((START_S + 30) * 1000,) * 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["epoch 1 loss", "error: loss is nan", "warning"]),
        ("loss", ["epoch 1 loss", "error: loss is nan"]),
        ("loss -error", ["epoch 1 loss"]),
        ('"loss is"', ["error: loss is nan"]),
        ("?epoch ?warning", ["epoch 1 loss", "warning"]),
    ],
)
def test_streams_are_searched_together_in_the_order_of_time(
    emulator: Emulator, logs: Any, pattern: str, expected: list[str]
) -> None:
    group = "/aws/sagemaker/Endpoints/" + pattern.replace(" ", "_").replace("?", "q").replace('"', "") + "x"
    files = Home(emulator.home).logs
    files.append(group, "b/algo-1-1", ["epoch 1 loss"], 1000)
    files.append(group, "a/algo-1-1", ["error: loss is nan"], 2000)
    files.append(group, "b/algo-1-1", ["warning"], 3000)
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, filterPattern=pattern, PaginationConfig={"PageSize": 1}
    )
    events = [event for page in pages for event in page["events"]]
    assert [event["message"] for event in events] == expected
    assert len({event["eventId"] for event in events}) == len(events)


def test_what_is_not_there_and_what_is_no_request_are_told_apart(emulator: Emulator, logs: Any) -> None:
    write(emulator, "there/algo-1-1", ["a"])
    stream = {"logGroupName": GROUP, "logStreamName": "there/algo-1-1"}
    assert code_of(logs.describe_log_streams, logGroupName="/nothing") == "ResourceNotFoundException"
    assert code_of(logs.get_log_events, **{**stream, "logStreamName": "x"}) == "ResourceNotFoundException"
    assert code_of(logs.get_log_events, **stream, nextToken="forged") == "InvalidParameterException"
    assert (
        code_of(logs.filter_log_events, logGroupName=GROUP, filterPattern="{ $.a = 1 }") == "InvalidParameterException"
    )
    assert code_of(logs.describe_log_streams, logGroupName="/../..") == "InvalidParameterException"
    assert code_of(logs.get_log_events, **{**stream, "logStreamName": "../../credentials.json"}) in (
        "ResourceNotFoundException",
        "InvalidParameterException",
    )


def test_groups_are_listed(emulator: Emulator, logs: Any) -> None:
    write(emulator, "group/algo-1-1", ["a"])
    groups = logs.describe_log_groups(logGroupNamePrefix="/aws/sagemaker/T")["logGroups"]
    assert [group["logGroupName"] for group in groups] == [GROUP]


def time_of(second: int) -> datetime:
    return datetime.fromtimestamp(START_S + second, UTC)


@pytest.fixture(scope="module")
def metrics(emulator: Emulator) -> Any:
    """A job's metrics: four losses in two minutes, and its host's CPU."""
    file = Home(emulator.home).metrics_file("measured")
    file.parent.mkdir(parents=True)
    points = [(0, "loss", 4.0, None), (20, "loss", 2.0, None), (61, "loss", 1.0, None), (62, "loss", 0.5, None)]
    points.append((30, "CPUUtilization", 97.5, "algo-1"))
    with file.open("w") as lines:
        for second, name, value, host in points:
            more = {"host": host} if host else {}
            lines.write(json.dumps({"timestamp": START_S + second, "name": name, "value": value, **more}) + "\n")
        lines.write('{"timestamp": 17')  # being written
    return emulator.client("cloudwatch")


def loss(**more: Any) -> dict[str, Any]:
    return {
        "Namespace": GROUP,
        "MetricName": "loss",
        "Dimensions": [{"Name": "TrainingJobName", "Value": "measured"}],
        **more,
    }


def test_metrics_are_listed_with_their_dimensions(metrics: Any) -> None:
    host = [{"Name": "Host", "Value": "measured/algo-1"}]
    found = metrics.list_metrics(Namespace=GROUP, Dimensions=loss()["Dimensions"])["Metrics"]
    assert found == [loss()]
    found = metrics.list_metrics(Namespace=GROUP, Dimensions=host)["Metrics"]
    assert found == [{"Namespace": GROUP, "MetricName": "CPUUtilization", "Dimensions": host}]
    assert metrics.list_metrics(Namespace="AWS/EC2")["Metrics"] == []


def test_statistics_are_by_period(metrics: Any) -> None:
    start = START_S % 60
    answer = metrics.get_metric_statistics(
        **loss(),
        StartTime=time_of(-start),
        EndTime=time_of(180),
        Period=60,
        Statistics=["Average", "Minimum", "SampleCount"],
        ExtendedStatistics=["p50"],
    )
    first, second = [point for point in answer["Datapoints"] if point["Timestamp"] <= time_of(61)]
    assert (first["Average"], first["Minimum"], first["SampleCount"]) == (3.0, 2.0, 2.0)
    assert first["ExtendedStatistics"] == {"p50": 3.0}
    assert second["Average"] == 0.75
    assert first["Timestamp"] == time_of(-start)


def test_metric_data_is_the_series_of_each_query(metrics: Any) -> None:
    def query(stat: str, **more: Any) -> dict[str, Any]:
        return {"Id": "q", "MetricStat": {"Metric": loss(), "Period": 1, "Stat": stat}, **more}

    times = {"StartTime": time_of(0), "EndTime": time_of(62)}
    [result] = metrics.get_metric_data(MetricDataQueries=[query("Average")], **times)["MetricDataResults"]
    assert (result["Values"], result["StatusCode"]) == ([1.0, 2.0, 4.0], "Complete")
    assert result["Timestamps"] == [time_of(61), time_of(20), time_of(0)]
    [result] = metrics.get_metric_data(
        MetricDataQueries=[query("Sum", Label="L")], ScanBy="TimestampAscending", **times
    )["MetricDataResults"]
    assert (result["Values"], result["Label"]) == ([4.0, 2.0, 1.0], "L")
    assert code_of(metrics.get_metric_data, MetricDataQueries=[query("TM(1:2)")], **times) == "InvalidParameterValue"
    wrong = [{"Id": "q", "Expression": "1+1"}]
    assert code_of(metrics.get_metric_data, MetricDataQueries=wrong, **times) == "ValidationError"
    with pytest.raises(ClientError, match="'LabelOptions.Timezone' is not emulated"):
        metrics.get_metric_data(MetricDataQueries=[query("Average")], LabelOptions={"Timezone": "+0100"}, **times)
    assert code_of(metrics.list_metrics, NextToken="forged") == "InvalidParameterValue"


def test_metric_data_comes_in_pages(metrics: Any) -> None:
    queries = [
        {"Id": name, "MetricStat": {"Metric": loss(), "Period": 1, "Stat": stat}}
        for name, stat in (("a", "Average"), ("b", "Sum"), ("none", "Average"))
    ]
    queries[2]["MetricStat"] = {"Metric": loss(MetricName="nobody"), "Period": 1, "Stat": "Sum"}
    asked = {"MetricDataQueries": queries, "StartTime": time_of(0), "EndTime": time_of(62), "MaxDatapoints": 2}
    pages, token = [], {}
    while token is not None:
        page = metrics.get_metric_data(**asked, **token)
        pages.append([(one["Id"], one["Values"], one["StatusCode"]) for one in page["MetricDataResults"]])
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else None
    assert pages == [
        [("a", [1.0, 2.0], "PartialData"), ("none", [], "Complete")],
        [("a", [4.0], "Complete"), ("b", [1.0], "PartialData")],
        [("b", [2.0, 4.0], "Complete")],
    ]
    whole = metrics.get_paginator("get_metric_data").paginate(**asked).build_full_result()["MetricDataResults"]
    assert [value for one in whole for value in one["Values"]] == [1.0, 2.0, 4.0] * 2
    assert code_of(metrics.get_metric_data, **asked, NextToken="forged") == "InvalidParameterValue"


def test_who_am_i_is_answered(emulator: Emulator) -> None:
    answer = emulator.client("sts").get_caller_identity()
    assert (answer["Account"], answer["Arn"]) == ("000000000000", "arn:aws:iam::000000000000:user/kennel")
    assert code_of(emulator.client("sts").get_session_token) == "UnknownOperationException"


def test_an_endpoint_that_is_not_there_is_told_in_the_runtimes_words(emulator: Emulator) -> None:
    runtime = emulator.client("sagemaker-runtime")
    with pytest.raises(runtime.exceptions.ValidationError, match="Endpoint none of account 000000000000 not found"):
        runtime.invoke_endpoint(EndpointName="none", Body=b"x", ContentType="image/jpeg")
    with pytest.raises(runtime.exceptions.ValidationError, match="not found"):
        runtime.invoke_endpoint_async(EndpointName="none", InputLocation="s3://b/k")
    assert code_of(runtime.invoke_endpoint, EndpointName="a_b", Body=b"x") == "ValidationError"
    assert code_of(runtime.invoke_endpoint, EndpointName="a/../../b", Body=b"x") == "ValidationError"
