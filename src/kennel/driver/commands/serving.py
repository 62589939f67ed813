"""Commands about endpoints and batch transform."""

from __future__ import annotations

from collections.abc import Sequence

from kennel.driver import tables
from kennel.driver.commands.context import Context, Result, assignments, dry_run, tell_price
from kennel.driver.endpoints import endpoints as hosting
from kennel.driver.endpoints import predict as predicting
from kennel.driver.endpoints import transform as transforming
from kennel.driver.endpoints.endpoints import Scaling
from kennel.driver.errors import DriverError


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
        environment=assignments(arguments.env, "--env"),
    )
    if arguments.dry_run:
        return dry_run(context, made.steps, None if arguments.serverless else made.hosting.machines)
    if not arguments.serverless:
        tell_price(session, made.hosting.machines)
    name = hosting.start(session, made)
    if arguments.wait or made.scaling:
        try:
            hosting.wait(session, name, config=made.hosting.name)
        except KeyboardInterrupt:
            session.reporter.say(f"Endpoint {name} goes on. kennel endpoints shows it, kennel clean deletes it.")
            raise
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
        return dry_run(context, made.steps, made.job.machines)
    tell_price(session, made.job.machines)
    name = transforming.start(session, made)
    if arguments.wait:
        try:
            transforming.wait(session, name)
        except KeyboardInterrupt:
            session.reporter.say(
                f"Transform job {name} goes on. kennel logs {name} --transform shows its log, "
                f"kennel stop {name} --transform ends it."
            )
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
