"""Commands about this machine: the local SageMaker, the doctor, the data."""

from __future__ import annotations

import shlex
from typing import Any

from kennel.driver import connection, doctor, findings, hosting, tables, training
from kennel.driver.commands.context import Context, Result


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
