"""Commands about training jobs, and logs of anything."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from kennel.driver import tables
from kennel.driver.commands.context import Context, Result, assignments, dry_run, tell_price
from kennel.driver.endpoints import endpoints as hosting
from kennel.driver.endpoints import transform as transforming
from kennel.driver.errors import DriverError
from kennel.driver.jobs import training, tuning
from kennel.driver.jobs.logs import LogLine, LogReader, describe_metrics

_FOLLOW_S = 1.0


def train(context: Context) -> Result:
    """Plan, send and follow a training job."""
    arguments, session = context.arguments, context.session
    channels = assignments(arguments.channel, "--channel", "PLACE")
    if arguments.pretrained:
        channels["pretrained"] = arguments.pretrained
    if arguments.from_tuning and arguments.data is None and "train" not in channels:
        channels = {**tuning.channels_of(session, arguments.from_tuning), **channels}
    made = training.plan(session, arguments.data, channels=channels, name=arguments.name)
    machines, limit_s = made.training.machines, made.training.max_runtime_s
    if arguments.dry_run:
        return dry_run(context, [("CreateTrainingJob", made.request)], machines, at_most_s=limit_s)
    tell_price(session, machines, at_most_s=limit_s)
    name = training.start(session, made)
    if not arguments.wait:
        return Result(f"job  {name}\nkennel logs -f {name} follows it, kennel stop {name} ends it.", {"job": name})
    session.reporter.say(f"Job {name} is sent")
    try:
        state = _follow_job(context, name) if arguments.logs else training.wait(session, name)
    except KeyboardInterrupt:
        session.reporter.say(f"Job {name} goes on. kennel logs -f {name} follows it, kennel stop {name} ends it.")
        raise
    return _job_result(state)


def _follow_job(context: Context, name: str) -> training.JobState:
    state = training.follow(context.session, name, lambda line: context.session.reporter.say(line.message))
    if state.status == "Failed":
        raise DriverError(f"Job {name} failed: {state.failure}")
    return state


def _job_result(state: training.JobState) -> Result:
    seconds = (state.ended - state.started).total_seconds() if state.ended and state.started else None
    text = tables.pairs(
        [
            ("job", state.name),
            ("status", state.status),
            ("artifact", state.artifact),
            ("metrics", describe_metrics(state.metrics)),
            ("took", tables.duration(seconds)),
            ("next", f"kennel deploy {state.name}" if state.artifact else ""),
        ]
    )
    data = {
        "job": state.name,
        "status": state.status,
        "artifact": state.artifact,
        "metrics": dict(state.metrics),
        "seconds": seconds,
        "billable_seconds": state.billable_s,
    }
    return Result(text, data)


def jobs(context: Context) -> Result:
    """List training jobs."""
    found = training.listing(context.session, limit=context.arguments.limit, contains=context.arguments.contains)
    rows = [
        (
            job["TrainingJobName"],
            job["TrainingJobStatus"],
            tables.when(job["CreationTime"]),
            tables.duration((end - job["CreationTime"]).total_seconds()) if (end := job.get("TrainingEndTime")) else "",
        )
        for job in found
    ]
    data = [
        {"job": row[0], "status": row[1], "created": job["CreationTime"].isoformat()}
        for row, job in zip(rows, found, strict=True)
    ]
    return Result(tables.columns(rows, ("job", "status", "created", "took")) if rows else "No jobs.", data)


def logs(context: Context) -> Result:
    """Print a log, and go on printing it when asked."""
    arguments, session = context.arguments, context.session

    def show(line: LogLine) -> None:
        context.out(json.dumps(line.__dict__, ensure_ascii=False) if arguments.json else _shown(line))

    if arguments.endpoint or arguments.transform:
        place = hosting if arguments.endpoint else transforming
        place.describe(session, arguments.name)  # a name that is none is said, not shown as an empty log
        _print_log(place.reader(session, arguments.name), show, follow=arguments.follow)
        return Result("", None)
    if arguments.follow:
        state = training.follow(session, arguments.name, show)
        session.reporter.say(f"Job {state.name} is {state.status}{f': {state.failure}' if state.failure else ''}")
        return Result("", None, int(state.status == "Failed"))
    training.describe(session, arguments.name)
    _print_log(training.reader(session, arguments.name), show, follow=False)
    return Result("", None)


def _shown(line: LogLine) -> str:
    host = line.stream.rpartition("/")[2]
    return line.message if host.startswith("algo-1-") or "algo-" not in host else f"{host}  {line.message}"


def _print_log(reader: LogReader, show: Callable[[LogLine], None], *, follow: bool) -> None:
    while True:
        for line in reader.read():
            show(line)
        if not follow:
            return
        time.sleep(_FOLLOW_S)


def stop(context: Context) -> Result:
    """Stop training jobs, or transform jobs."""
    place = transforming if context.arguments.transform else training
    for name in context.arguments.names:
        place.stop(context.session, name)
    lines = [f"{name} is asked to stop" for name in context.arguments.names]
    return Result("\n".join(lines), {"stopping": context.arguments.names})
