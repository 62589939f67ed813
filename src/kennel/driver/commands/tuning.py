"""Commands about tuning jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kennel.driver import tables
from kennel.driver.commands.context import Context, Result, assignments, dry_run, tell_price
from kennel.driver.errors import DriverError
from kennel.driver.jobs import tuning, tuning_report
from kennel.driver.jobs.tuning_watching import Follower
from kennel.driver.requests.training import Machines
from kennel.driver.session.session import Session


def tune(context: Context) -> Result:
    """Plan, send and follow a tuning job."""
    arguments, session = context.arguments, context.session
    channels = assignments(arguments.channel, "--channel")
    if arguments.pretrained:
        channels["pretrained"] = arguments.pretrained
    made = tuning.plan(
        session, arguments.data, channels=channels, name=arguments.name,
        parents=arguments.warm_start, transfer=arguments.transfer,
    )  # fmt: skip
    machines = _machines(made)
    if arguments.dry_run:
        _say_trials(session, made)
        return dry_run(context, [("CreateHyperParameterTuningJob", made.request)], machines, at_most_s=made.at_most_s)
    _say_trials(session, made)
    tell_price(session, machines, at_most_s=made.at_most_s)
    name = tuning.start(session, made)
    if not arguments.wait:
        return Result(f"tuning job  {name}\n{_way_back(name)}", {"tuning_job": name})
    session.reporter.say(f"Tuning job {name} is sent")
    return _follow(session, name)


def _machines(made: tuning.Plan) -> Machines:
    """Of all trials that may run at once."""
    one = made.tuning.training.machines
    return Machines(one.instance_type, one.instance_count * made.tuning.parallel, one.volume_gb)


def _say_trials(session: Session, made: tuning.Plan) -> None:
    wanted = made.tuning
    space = "  ".join(f"{one.name} {one}" for one in wanted.space)
    at_once = "one after another" if wanted.parallel == 1 else f"{wanted.parallel} at a time"
    trials = "1 trial" if wanted.jobs == 1 else f"{wanted.jobs} trials"
    session.reporter.say(f"{trials} by {wanted.strategy}, {at_once}: {space}")


def _way_back(name: str) -> str:
    return f"kennel tune show {name} shows how it is (-f follows it), kennel tune stop {name} ends it."


def _follow(session: Session, name: str) -> Result:
    try:
        state = Follower(session, name).run()
    except KeyboardInterrupt:
        session.reporter.say(f"Tuning job {name} goes on. {_way_back(name)}")
        raise
    if state.status == "Failed":
        raise DriverError(f"Tuning job {name} failed: {state.failure}", f"kennel tune show {name}")
    return _shown(session, name, page=None, with_page=False)


def show(context: Context) -> Result:
    """Show a tuning job: the best trial, all trials, what matters, as text and as a page."""
    arguments, session = context.arguments, context.session
    name = arguments.name
    if arguments.best:
        best = tuning.best_hyperparameters(session, name)
        return Result(json.dumps(best, indent=2, ensure_ascii=False), best)
    if arguments.follow and not tuning.describe(session, name).is_over:
        _follow(session, name)
    return _shown(session, name, page=arguments.html, with_page=True)


def _shown(session: Session, name: str, *, page: Path | None, with_page: bool) -> Result:
    found = tuning_report.gather(session, name)
    if with_page:
        found = tuning_report.judge(session, found, page)
    return Result(tuning_report.text(found), found.to_json())


def jobs(context: Context) -> Result:
    """List tuning jobs."""
    found = tuning.listing(context.session, limit=context.arguments.limit, contains=context.arguments.contains)
    rows = [
        (
            job["HyperParameterTuningJobName"],
            job["HyperParameterTuningJobStatus"],
            job["Strategy"],
            _counted(job["TrainingJobStatusCounters"]),
            tables.when(job["CreationTime"]),
        )
        for job in found
    ]
    header = ("tuning job", "status", "strategy", "trials", "created")
    data = [
        {"tuning_job": row[0], "status": row[1], "strategy": row[2], "created": job["CreationTime"].isoformat(),
         "trials": job["TrainingJobStatusCounters"]}
        for row, job in zip(rows, found, strict=True)
    ]  # fmt: skip
    return Result(tables.columns(rows, header) if rows else "No tuning jobs.", data)


def _counted(counters: dict[str, Any]) -> str:
    words = {"Completed": "completed", "InProgress": "in progress", "Stopped": "stopped"}
    failed = counters.get("NonRetryableError", 0)  # RetryableError are tried again
    parts = [f"{counters[member]} {word}" for member, word in words.items() if counters.get(member)]
    return ", ".join([*parts, *([f"{failed} failed"] if failed else [])]) or "none"


def stop(context: Context) -> Result:
    """Stop tuning jobs."""
    names: Sequence[str] = context.arguments.names
    for name in names:
        tuning.stop(context.session, name)
    return Result("\n".join(f"{name} is asked to stop" for name in names), {"stopping": list(names)})
