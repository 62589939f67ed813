"""CloudWatch Logs over the log files: enough for SDKs, the aws CLI and anybody who follows a job.

Times are milliseconds since 1970. A forward token `f/BYTE` is the place where the next line will be: it stays good
while the log grows, and at the end a client gets back the one it sent, as CloudWatch has it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kennel.emulator.documents.names import ACCOUNT, Request
from kennel.emulator.errors import AwsError
from kennel.emulator.operations.context import Context
from kennel.emulator.operations.log_pattern import matcher
from kennel.emulator.state.log_files import LogEvent
from kennel.emulator.state.store import Document

MAX_EVENTS = 10_000
MAX_BYTES = 1024 * 1024  # of one answer, as CloudWatch counts: 26 bytes for each event beside its message
_EVENT_BYTES = 26
_PAGE = 50  # groups or streams
_TOKEN = re.compile(r"([fb])/(\d{1,18})")


def describe_log_groups(context: Context, request: Request) -> Document:
    """DescribeLogGroups."""
    groups = context.home.logs.groups(request.get("logGroupNamePrefix", ""))
    pattern = request.get("logGroupNamePattern", "").lower()
    shown, token = _page([name for name in groups if pattern in name.lower()], request)
    arns = {name: f"arn:aws:logs:{context.region}:{ACCOUNT}:log-group:{name}" for name in shown}
    return {
        "logGroups": [
            {"logGroupName": name, "arn": f"{arn}:*", "logGroupArn": arn, "logGroupClass": "STANDARD"}
            for name, arn in arns.items()
        ],
        "nextToken": token,
    }


def describe_log_streams(context: Context, request: Request) -> Document:
    """DescribeLogStreams."""
    group = _group(context, request)
    names = context.home.logs.streams(group, request.get("logStreamNamePrefix", ""))
    by_name = request.get("orderBy", "LogStreamName") == "LogStreamName"
    if by_name:
        shown, token = _page(sorted(names, reverse=request.get("descending", False)), request)
        streams = [_described(context, group, name) for name in shown]
    else:
        streams = [_described(context, group, name) for name in names]
        streams.sort(key=lambda one: one.get("lastEventTimestamp", 0), reverse=request.get("descending", False))
        shown, token = _page([stream["logStreamName"] for stream in streams], request)
        streams = [stream for stream in streams if stream["logStreamName"] in shown]
    return {"logStreams": streams, "nextToken": token}


def _described(context: Context, group: str, name: str) -> Document:
    found: Document = {
        "logStreamName": name,
        "arn": f"arn:aws:logs:{context.region}:{ACCOUNT}:log-group:{group}:log-stream:{name}",
        "storedBytes": 0,  # CloudWatch's own answer since 2019
    }
    ends = context.home.logs.first_and_last(group, name)
    if ends is None:
        return found
    first, last = ends
    times = {"creationTime": first, "firstEventTimestamp": first, "lastEventTimestamp": last, "lastIngestionTime": last}
    return {**found, **{member: event.timestamp_ms for member, event in times.items()}}


def get_log_events(context: Context, request: Request) -> Document:
    """GetLogEvents: the newest events, or from a token or the beginning on."""
    group = _group(context, request)
    stream = request["logStreamName"]
    file = _file(context, group, stream)
    token = request.get("nextToken", "f/0" if request.get("startFromHead") else f"b/{file.stat().st_size}")
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise _invalid(f"nextToken '{token[:100]}' is none of the emulator's; leave it out.")
    direction, place = match[1], int(match[2])
    if direction == "f":
        taken = _first(context.home.logs.read(group, stream, place), request)
    else:
        taken = _first(context.home.logs.read_back(group, stream, place), request)[::-1]
    start, end = (taken[0].start, taken[-1].end) if taken else (place, place)
    return {
        "events": [_event(one) for one in taken],
        "nextForwardToken": f"f/{end}",
        "nextBackwardToken": f"b/{start}",
    }


def _first(events: Iterator[LogEvent], request: Request) -> list[LogEvent]:
    """As many as fit into one answer."""
    taken: list[LogEvent] = []
    size = 0
    for event in events:
        if not _in_time(event, request):
            continue
        size += _size(event)
        if len(taken) == request.get("limit", MAX_EVENTS) or (taken and size > MAX_BYTES):
            break
        taken.append(event)
    return taken


@dataclass(frozen=True)
class _Found:
    """An event of a stream; in the order of FilterLogEvents."""

    stream: str
    event: LogEvent

    @property
    def key(self) -> tuple[int, str, int]:
        return self.event.timestamp_ms, self.stream, self.event.start


def filter_log_events(context: Context, request: Request) -> Document:
    """FilterLogEvents: all streams of a group in the order of time."""
    group = _group(context, request)
    streams = request.get("logStreamNames") or context.home.logs.streams(group, request.get("logStreamNamePrefix", ""))
    matches = matcher(request.get("filterPattern", ""))
    last = _read_place(request["nextToken"]) if "nextToken" in request else (-1, "", 0)
    found, more = _earliest(
        (one for one in _matching(context, group, streams, request, matches) if one.key > last),
        request.get("limit", MAX_EVENTS),
    )
    taken = found[: _count(found, request.get("limit", MAX_EVENTS))]
    more = more or len(found) > len(taken)
    return {
        "events": [
            {**_event(one.event), "logStreamName": one.stream, "eventId": f"{one.stream}:{one.event.start}"}
            for one in taken
        ],
        "searchedLogStreams": [],
        "nextToken": _place_token(taken[-1].key) if more else None,
    }


def _earliest(events: Iterable[_Found], limit: int) -> tuple[list[_Found], bool]:
    """Those that could be in one answer, in their order, and whether there are more. Few are held at a time."""
    held: list[_Found] = []
    size, more = 0, False
    for one in events:
        held.append(one)
        size += _size(one.event)
        if len(held) > 2 * limit or size > 4 * MAX_BYTES:
            held.sort(key=lambda one: one.key)
            more |= len(held) > (count := _count(held, limit) + 1)
            held = held[:count]
            size = sum(_size(one.event) for one in held)
    return sorted(held, key=lambda one: one.key), more


def _matching(
    context: Context, group: str, streams: Iterable[str], request: Request, matches: Callable[[str], bool]
) -> Iterator[_Found]:
    for stream in streams:
        _file(context, group, stream)
        for event in context.home.logs.read(group, stream):
            if _in_time(event, request) and matches(event.message):
                yield _Found(stream, event)


def _count(found: list[_Found], limit: int) -> int:
    """How many events fit into one answer; one always does."""
    size = 0
    for index, one in enumerate(found[:limit]):
        size += _size(one.event)
        if index and size > MAX_BYTES:
            return index
    return min(len(found), limit)


def _in_time(event: LogEvent, request: Request) -> bool:
    return bool(request.get("startTime", 0) <= event.timestamp_ms < request.get("endTime", float("inf")))


def _size(event: LogEvent) -> int:
    return len(event.message.encode()) + _EVENT_BYTES


def _event(event: LogEvent) -> Document:
    return {"timestamp": event.timestamp_ms, "message": event.message, "ingestionTime": event.timestamp_ms}


def _group(context: Context, request: Request) -> str:
    """The group's name, from itself or from an ARN."""
    given = request.get("logGroupName") or request.get("logGroupIdentifier", "").removesuffix(":*")
    name: str = given.rpartition(":log-group:")[2]
    try:
        if context.home.logs.has_group(name):
            return name
    except ValueError as error:
        raise _invalid(str(error)) from None
    raise _missing("group")


def _file(context: Context, group: str, stream: str) -> Path:
    try:
        file = context.home.logs.file(group, stream)
    except ValueError as error:
        raise _invalid(str(error)) from None
    if not file.is_file():
        raise _missing("stream")
    return file


def _page(names: list[str], request: Request) -> tuple[list[str], str | None]:
    token = request.get("nextToken", "0")
    if not token.isdecimal():
        raise _invalid(f"nextToken '{token[:100]}' is none of the emulator's; leave it out.")
    start, size = int(token), request.get("limit", _PAGE)
    return names[start : start + size], str(start + size) if start + size < len(names) else None


def _place_token(key: tuple[int, str, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read_place(token: str) -> tuple[int, str, int]:
    try:
        timestamp_ms, stream, start = json.loads(base64.urlsafe_b64decode(token.encode()))
        return int(timestamp_ms), str(stream), int(start)
    except (ValueError, TypeError):
        raise _invalid(f"nextToken '{token[:100]}' is none of the emulator's; leave it out.") from None


def _missing(what: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"The specified log {what} does not exist.")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterException", message)
