"""What each command does: values in, a result out. Nothing here prints."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kennel.driver import (
    cleaning,
    connection,
    doctor,
    findings,
    hosting,
    predicting,
    prices,
    tables,
    training,
    transforming,
)
from kennel.driver.errors import DriverError
from kennel.driver.hosting import Scaling
from kennel.driver.logs import LogLine, LogReader, describe_metrics
from kennel.driver.requests import Machines, Request
from kennel.driver.session import Session

_FOLLOW_S = 1.0


@dataclass(frozen=True)
class Result:
    """What a command found: for people, for programs, and for the shell."""

    text: str
    data: Any
    code: int = 0


@dataclass(frozen=True)
class Context:
    """What a command works with."""

    arguments: argparse.Namespace
    session: Session
    out: Callable[[str], None]  # for results that come line by line


def up(context: Context) -> Result:
    """Start the local SageMaker."""
    session, port = context.session, context.arguments.port
    running = connection.start(session.home, session.reporter.say, runner=session.project.runner, port=port)
    return Result(f"The local SageMaker answers at {running.url} (process {running.pid}).", _emulator(running))


def _emulator(running: connection.Emulator) -> dict[str, Any]:
    return {"pid": running.pid, "url": running.url, "region": running.region}


def down(context: Context) -> Result:
    """End the local SageMaker."""
    ended = connection.stop(context.session.home)
    return Result("The local SageMaker has ended." if ended else "The local SageMaker does not run.", {"ended": ended})


def status(context: Context) -> Result:
    """Show what runs; starts nothing."""
    session = context.session
    running = connection.find(session.home)
    alive = session.record.alive()
    paid = [entry for entry in alive if entry.on == "aws"]
    rows: list[tuple[str, Any]] = [
        ("home", session.home.path),
        ("local SageMaker", f"{running.url}, process {running.pid}" if running else "not running"),
    ]
    if running:
        states = [job["TrainingJobStatus"] for job in training.listing(session, limit=100)]
        serving = [endpoint["EndpointName"] for endpoint in hosting.listing(session)]
        rows += [("jobs in progress", states.count("InProgress")), ("endpoints", ", ".join(serving) or "none")]
    rows.append(("recorded", f"{len(alive) - len(paid)} on local, {len(paid)} on aws; kennel clean deletes them"))
    data = {"home": str(session.home.path), "emulator": _emulator(running) if running else None, "recorded": len(alive)}
    return Result(tables.pairs(rows), data)


def env(context: Context) -> Result:
    """Variables for other AWS clients."""
    session = context.session
    running = connection.start(session.home, session.reporter.say, runner=session.project.runner)
    variables = running.environment()
    if context.arguments.unset:
        return Result(f"unset {' '.join(variables)}", list(variables))
    return Result("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()), variables)


def examine(context: Context) -> Result:
    """`kennel doctor`."""
    found = doctor.examine(context.session)
    rows = [{"level": f.level, "subject": f.subject, "text": f.text, "hint": f.hint} for f in found]
    return Result(tables.levels(found), rows, int(any(f.level == findings.FAIL for f in found)))


def data(context: Context) -> Result:
    """`kennel data check`."""
    from kennel.driver import datacheck  # Pillow and numpy

    hyperparameters = context.session.project.hyperparameters
    report = datacheck.check(
        context.arguments.folder.expanduser(),
        context.session.reporter,
        validation_fraction=float(hyperparameters.get("validation_fraction", 0.2)),
        bad_images=str(hyperparameters.get("bad_images", "skip")),
    )
    verdict = "Training would begin." if report.is_usable else "Training would fail."
    return Result(f"{tables.levels(report.findings)}\n{verdict}", report.to_json(), 0 if report.is_usable else 1)


def train(context: Context) -> Result:
    """Plan, send and follow a training job."""
    arguments, session = context.arguments, context.session
    channels = _assignments(arguments.channel, "--channel")
    if arguments.pretrained:
        channels["pretrained"] = arguments.pretrained
    made = training.plan(session, arguments.data, channels=channels, name=arguments.name)
    machines, limit_s = made.training.machines, made.training.max_runtime_s
    if arguments.dry_run:
        return _dry_run(context, [("CreateTrainingJob", made.request)], machines, at_most_s=limit_s)
    _tell_price(session, machines, at_most_s=limit_s)
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
        reader = (hosting if arguments.endpoint else transforming).reader(session, arguments.name)
        _print_log(reader, show, follow=arguments.follow)
        return Result("", None)
    if arguments.follow:
        state = training.follow(session, arguments.name, show)
        session.reporter.say(f"Job {state.name} is {state.status}{f': {state.failure}' if state.failure else ''}")
        return Result("", None, int(state.status == "Failed"))
    training.describe(session, arguments.name)  # a name that is none is said, not shown as an empty log
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
    """Stop training jobs."""
    for name in context.arguments.names:
        training.stop(context.session, name)
    lines = [f"{name} is asked to stop" for name in context.arguments.names]
    return Result("\n".join(lines), {"stopping": context.arguments.names})


def deploy(context: Context) -> Result:
    """Create or update an endpoint, and wait until it answers."""
    arguments, session = context.arguments, context.session
    made = hosting.plan(
        session,
        arguments.what,
        name=arguments.name,
        serverless=arguments.serverless,
        asynchronous=arguments.asynchronous,
        capture_percentage=arguments.capture,
        scaling=_scaling(arguments.autoscale, arguments.autoscale_invocations),
        environment=_assignments(arguments.env, "--env"),
    )
    if arguments.dry_run:
        return _dry_run(context, made.steps, None if arguments.serverless else made.hosting.machines)
    if not arguments.serverless:
        _tell_price(session, made.hosting.machines)
    name = hosting.start(session, made)
    if arguments.wait or made.scaling:
        hosting.wait(session, name, config=made.hosting.name)
    if made.scaling:
        hosting.scale(session, name, made.scaling)
        session.reporter.say(f"{name} scales from {made.scaling.low} to {made.scaling.high} instances")
    text = tables.pairs(
        [("endpoint", name), ("model", made.model.name), ("artifact", made.artifact.uri),
         ("next", f"kennel predict {name} PHOTO" + (" --async" if arguments.asynchronous else ""))]
    )  # fmt: skip
    data = {"endpoint": name, "config": made.hosting.name, "model": made.model.name, "artifact": made.artifact.uri}
    return Result(text, data)


def _scaling(text: str | None, invocations: float) -> Scaling | None:
    if text is None:
        return None
    low, _, high = text.partition(":")
    if not (low.isdigit() and high.isdigit()):
        raise DriverError(f"--autoscale is '{text}'.", "Write MIN:MAX, such as 1:4.")
    return Scaling(int(low), int(high), invocations)


def predict(context: Context) -> Result:
    """Ask an endpoint; 1 when a photo was refused."""
    arguments, session = context.arguments, context.session
    maps = arguments.heat_maps
    question = predicting.Question(
        arguments.endpoint, arguments.top_k, maps is not None, arguments.asynchronous, arguments.variant
    )
    answers = list(predicting.predict(session, question, predicting.photos(arguments.photos)))
    if maps is not None:
        maps.mkdir(parents=True, exist_ok=True)
        for answer in answers:
            if answer.heat_map:
                (maps / f"{answer.path.stem}.png").write_bytes(answer.heat_map)
    code = int(any(answer.error for answer in answers))
    return Result(_answers(answers), [answer.to_json() for answer in answers], code)


def _answers(answers: Sequence[predicting.Answer]) -> str:
    rows = []
    for answer in answers:
        best, *others = answer.predictions or (None,)
        if answer.error or best is None:
            rows.append((answer.path, "refused", "", answer.error or "no class"))
        else:
            then = ", ".join(f"{other.label} {other.probability:.3f}" for other in others)
            rows.append((answer.path, best.label, f"{best.probability:.3f}", then))
    return tables.columns(rows, ("photo", "predicted", "probability", "then"))


def transform(context: Context) -> Result:
    """Run a model over a folder or prefix."""
    arguments, session = context.arguments, context.session
    made = transforming.plan(session, arguments.what, arguments.data, output=arguments.output, name=arguments.name)
    if arguments.dry_run:
        return _dry_run(context, made.steps, made.job.machines)
    _tell_price(session, made.job.machines)
    name = transforming.start(session, made)
    if arguments.wait:
        try:
            transforming.wait(session, name)
        except KeyboardInterrupt:
            session.reporter.say(f"Transform job {name} goes on. kennel logs {name} --transform shows its log.")
            raise
    text = tables.pairs([("transform job", name), ("model", made.job.model), ("output", made.job.output_uri)])
    return Result(text, {"transform_job": name, "model": made.job.model, "output": made.job.output_uri})


def endpoints(context: Context) -> Result:
    """List endpoints."""
    found = hosting.listing(context.session)
    rows = [(e["EndpointName"], e["EndpointStatus"], tables.when(e["CreationTime"])) for e in found]
    data = [{"endpoint": row[0], "status": row[1], "created": e["CreationTime"].isoformat()}
            for row, e in zip(rows, found, strict=True)]  # fmt: skip
    return Result(tables.columns(rows, ("endpoint", "status", "created")) if rows else "No endpoints.", data)


def clean(context: Context) -> Result:
    """Delete what was created; 1 while something that should be gone is left."""
    arguments, session = context.arguments, context.session
    if arguments.dry_run:
        kinds = [kind for kind in cleaning.ORDER if arguments.data or kind != cleaning.DATA]
        due = cleaning.due(session, kinds)
        rows = [(entry.kind, entry.name) for entry in due]
        text = tables.columns(rows, ("would delete", "")) if rows else "Nothing to delete."
        return Result(text, [{"kind": entry.kind, "name": entry.name} for entry in due])
    if not cleaning.due(session):
        return Result("Nothing to delete.", cleaning.Cleaned().to_json())
    done = cleaning.clean(session, data=arguments.data)
    lines = [f"deleted  {entry.kind}  {entry.name}" for entry in done.deleted]
    lines += [f"left     {entry.kind}  {entry.name}: {reason}" for entry, reason in done.left]
    unwanted = [entry for entry, _ in done.left if entry.kind != cleaning.DATA or arguments.data]
    return Result("\n".join(lines), done.to_json(), int(bool(unwanted)))


def cost(context: Context) -> Result:
    """Estimate what was spent."""
    found = prices.costs(context.session.record.entries())
    rows = [
        (c.entry.on, c.entry.kind, c.entry.name, tables.duration(c.seconds), tables.dollars(c.usd), c.remark)
        for c in found
    ]
    total = sum(c.usd for c in found if c.usd is not None)
    unknown = sum(c.usd is None for c in found)
    table = prices.table()
    more = f", and {unknown} not known" if unknown else ""
    note = f"Estimate: {total:.2f} USD{more} (on demand, {table['region']}, table of {table['date']}); check the bill."
    data = {
        "estimate_usd": round(total, 4),
        "unknown": unknown,
        "price_table": {"date": table["date"], "region": table["region"], "source": table["source"]},
        "resources": [
            {"on": c.entry.on, "kind": c.entry.kind, "name": c.entry.name, "seconds": c.seconds, "usd": c.usd,
             "remark": c.remark}
            for c in found
        ],
    }  # fmt: skip
    shown = tables.columns(rows, ("on", "kind", "name", "time", "estimate", "")) + "\n" if rows else ""
    return Result(shown + note, data)


def _assignments(texts: Sequence[str], flag: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DriverError(f"{flag} is '{text}'.", f"Write {flag} NAME=VALUE.")
        values[name] = value
    return values


def _dry_run(
    context: Context, steps: Sequence[tuple[str, Request]], machines: Machines | None, *, at_most_s: float | None = None
) -> Result:
    """The requests as they would be sent; the price goes to stderr, so that stdout can be sent by another client."""
    session = context.session
    price = None
    if machines and not session.is_local:
        price = prices.estimate(machines.instance_type, machines.instance_count, at_most_s=at_most_s)
        session.reporter.say(str(price))
    shown: Any = steps[0][1] if len(steps) == 1 else [{"operation": name, "request": body} for name, body in steps]
    data = {
        "requests": [{"operation": name, "request": body} for name, body in steps],
        "price": price.to_json() if price else None,
    }
    return Result(json.dumps(shown, indent=2, ensure_ascii=False), data)


def _tell_price(session: Session, machines: Machines, *, at_most_s: float | None = None) -> None:
    if not session.is_local:
        estimate = prices.estimate(machines.instance_type, machines.instance_count, at_most_s=at_most_s)
        session.reporter.say(str(estimate))


COMMANDS: dict[str, Callable[[Context], Result]] = {
    "up": up,
    "down": down,
    "status": status,
    "env": env,
    "doctor": examine,
    "data": data,
    "train": train,
    "jobs": jobs,
    "logs": logs,
    "stop": stop,
    "deploy": deploy,
    "predict": predict,
    "transform": transform,
    "endpoints": endpoints,
    "clean": clean,
    "cost": cost,
}
