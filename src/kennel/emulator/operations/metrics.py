"""CloudWatch metrics of training jobs: namespace /aws/sagemaker/TrainingJobs, read from each job's files of them.

What MetricDefinitions found has the dimension TrainingJobName; what was measured of a host, Host=NAME/algo-1.
Source: developer guide, "Monitor and Analyze Training Jobs Using Amazon CloudWatch Metrics".
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kennel.emulator.documents.names import Request
from kennel.emulator.errors import AwsError
from kennel.emulator.operations.context import Context
from kennel.emulator.state.store import Document

NAMESPACE = "/aws/sagemaker/TrainingJobs"
_PAGE = 500  # metrics of a ListMetrics answer
_DATAPOINTS = 100_800  # of a GetMetricData answer, where MaxDatapoints does not say less
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "SampleCount": lambda values: float(len(values)),
    "Average": lambda values: math.fsum(values) / len(values),
    "Sum": math.fsum,
    "Minimum": min,
    "Maximum": max,
}


@dataclass(frozen=True)
class _Point:
    name: str
    dimensions: tuple[tuple[str, str], ...]
    time_s: float
    value: float


def list_metrics(context: Context, request: Request) -> Document:
    """ListMetrics."""
    if request.get("Namespace", NAMESPACE) != NAMESPACE:
        return {"Metrics": []}
    wanted = [(one["Name"], one.get("Value")) for one in request.get("Dimensions", [])]
    named = [_job_of(name, value) for name, value in wanted if value is not None]
    jobs = named[:1] or [job["TrainingJobName"] for job in context.store.all("training-job")]
    found = {(p.name, p.dimensions) for job in jobs for p in _points(context, job) if _has(p, request, wanted)}
    start = _start(request)
    shown = sorted(found)[start : start + _PAGE]
    return {
        "Metrics": [{"Namespace": NAMESPACE, "MetricName": name, "Dimensions": _named(dims)} for name, dims in shown],
        "NextToken": str(start + _PAGE) if len(found) > start + _PAGE else None,
    }


def get_metric_statistics(context: Context, request: Request) -> Document:
    """GetMetricStatistics."""
    asked = [*request.get("Statistics", []), *request.get("ExtendedStatistics", [])]
    if not asked:
        raise AwsError("MissingParameter", "Send Statistics, such as Average, or ExtendedStatistics, such as p90.")
    datapoints = []
    for time_s, values in sorted(_periods(context, request, request, request["Period"]).items()):
        plain = {name: _statistic(name, values) for name in request.get("Statistics", [])}
        extended = {name: _statistic(name, values) for name in request.get("ExtendedStatistics", [])}
        more = {"ExtendedStatistics": extended} if extended else {}
        datapoints.append({"Timestamp": time_s, "Unit": _unit(request), **plain, **more})
    return {"Label": request["MetricName"], "Datapoints": datapoints}


def _unit(metric: Request) -> str:
    return "Percent" if any(one["Name"] == "Host" for one in metric.get("Dimensions", [])) else "None"


def get_metric_data(context: Context, request: Request) -> Document:
    """GetMetricData, of queries that name a metric; MaxDatapoints counts those of all results together."""
    results = []
    for query in request["MetricDataQueries"]:
        if "MetricStat" not in query:
            raise AwsError("ValidationError", f"Query '{query['Id']}' has no MetricStat; expressions are not emulated.")
        if query.get("ReturnData", True):
            results.append(_result(context, request, query))
    start = _start(request)
    return _datapoint_page(results, start, start + request.get("MaxDatapoints", _DATAPOINTS))


def _datapoint_page(results: list[Document], start: int, end: int) -> Document:
    """The points from one to before another, counted through all results; what is cut short is PartialData."""
    page, before = [], 0
    for result in results:
        count = len(result["Values"])
        begin, stop = max(0, start - before), max(0, min(count, end - before))
        before += count
        if stop > begin or (not count and not start):
            cut = {member: result[member][begin:stop] for member in ("Timestamps", "Values")}
            page.append({**result, **cut, "StatusCode": "Complete" if stop == count else "PartialData"})
    return {"MetricDataResults": page, "NextToken": str(end) if before > end else None}


def _start(request: Request) -> int:
    """What NextToken says: how much was answered before."""
    token = request.get("NextToken", "0")
    if not token.isdecimal():
        raise AwsError("InvalidParameterValue", f"NextToken '{token[:100]}' is none of the emulator's; leave it out.")
    return int(token)


def _result(context: Context, request: Request, query: Document) -> Document:
    asked = query["MetricStat"]
    periods = sorted(_periods(context, asked["Metric"], request, asked["Period"]).items())
    if request.get("ScanBy", "TimestampDescending") == "TimestampDescending":
        periods.reverse()
    return {
        "Id": query["Id"],
        "Label": query.get("Label", asked["Metric"].get("MetricName", "")),
        "Timestamps": [time_s for time_s, _ in periods],
        "Values": [_statistic(asked["Stat"], values) for _, values in periods],
    }


def _periods(context: Context, metric: Document, times: Request, period_s: int) -> dict[float, list[float]]:
    """The values of a metric by the start of their period."""
    dimensions = {one["Name"]: one["Value"] for one in metric.get("Dimensions", [])}
    jobs = [_job_of(name, value) for name, value in dimensions.items()]
    found: dict[float, list[float]] = defaultdict(list)
    if metric.get("Namespace") != NAMESPACE or len(jobs) != 1:
        return found
    for point in _points(context, jobs[0]):
        asked = point.name == metric.get("MetricName") and dict(point.dimensions) == dimensions
        if asked and times["StartTime"] <= point.time_s < times["EndTime"]:
            found[point.time_s // period_s * period_s].append(point.value)
    return found


def _statistic(name: str, values: Sequence[float]) -> float:
    if name in _STATISTICS:
        return _STATISTICS[name](values)
    match = _PERCENTILE.fullmatch(name)
    if match is None:
        raise AwsError("InvalidParameterValue", f"Stat '{name}' is not emulated; use {', '.join(_STATISTICS)} or p90.")
    ordered = sorted(values)
    place = (len(ordered) - 1) * float(match[1]) / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _points(context: Context, job: str) -> Iterator[_Point]:
    for line in _lines(context, job):
        if line.endswith("\n"):  # a line that is being written is not there yet
            one = json.loads(line)
            dimension = ("Host", f"{job}/{one['host']}") if "host" in one else ("TrainingJobName", job)
            yield _Point(one["name"], (dimension,), one["timestamp"], one["value"])


def _lines(context: Context, job: str) -> Iterator[str]:
    with contextlib.suppress(ValueError):  # no job has such a name
        for file in (context.home.metrics_file(job), context.home.host_metrics_file(job)):
            with contextlib.suppress(FileNotFoundError):  # no such job, no metric yet
                yield from file.read_text(encoding="utf-8").splitlines(keepends=True)


def _job_of(dimension: str, value: str) -> str:
    return value.rpartition("/")[0] if dimension == "Host" else value


def _has(point: _Point, request: Request, wanted: Sequence[tuple[str, str | None]]) -> bool:
    have = dict(point.dimensions)
    return request.get("MetricName", point.name) == point.name and all(
        name in have and value in (None, have[name]) for name, value in wanted
    )


def _named(dimensions: Sequence[tuple[str, str]]) -> list[Document]:
    return [{"Name": name, "Value": value} for name, value in dimensions]
