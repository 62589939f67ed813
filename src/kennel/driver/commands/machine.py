"""Commands about this machine: the local SageMaker, the doctor, the data."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from kennel.contract.hyperparameters import canonical
from kennel.driver import tables
from kennel.driver.checks import doctor, findings
from kennel.driver.commands.context import Context, Result
from kennel.driver.endpoints import endpoints as hosting
from kennel.driver.endpoints import transform as transforming
from kennel.driver.errors import DriverError
from kennel.driver.jobs import training, tuning
from kennel.driver.session import connection
from kennel.driver.session.session import Session
from kennel.driver.session.whereabouts import Emulator, look

_SHOWN = 20  # of each kind
_RUNNING = ("jobs", "tuning_jobs", "transform_jobs", "endpoints")


def up(context: Context) -> Result:
    """Start the local SageMaker."""
    session, port = context.session, context.arguments.port
    wanted = session.project.runner
    running = connection.start(session.home, session.reporter.say, runner=wanted, port=port)
    if wanted not in ("auto", running.runner):
        raise _other(f"It starts images with {running.runner}, not with {wanted}.")
    if port and not running.url.endswith(f":{port}"):
        raise _other(f"It listens at {running.url}, not on port {port}.")
    return Result(f"The local SageMaker answers at {running.url} ({_process(running)}).", _emulator(running))


def _other(problem: str) -> DriverError:
    return DriverError(f"The local SageMaker runs already. {problem}", "kennel down ends it; its jobs go on.")


def _process(running: Emulator) -> str:
    return f"process {running.pid}, runner {running.runner}"


def _emulator(running: Emulator) -> dict[str, Any]:
    return {"pid": running.pid, "url": running.url, "region": running.region, "runner": running.runner}


def down(context: Context) -> Result:
    """End the local SageMaker."""
    ended = connection.stop(context.session.home)
    return Result("The local SageMaker has ended." if ended else "The local SageMaker does not run.", {"ended": ended})


def status(context: Context) -> Result:
    """Show what runs; starts nothing."""
    session = context.session
    seen = look(session.home)
    running = seen.emulator
    alive = session.record.alive()
    paid = [entry for entry in alive if entry.on == "aws"]
    rows: list[tuple[str, Any]] = [
        ("home", session.home.path),
        ("local SageMaker", f"{running.url}, {_process(running)}" if running else seen.problem or "not running"),
    ]
    if seen.problem:
        rows.append(("what to do", seen.hint))
    data: dict[str, Any] = {
        "home": str(session.home.path),
        "emulator": _emulator(running) if running else None,
        "problem": seen.problem or None,
    }
    if running:
        data["jobs"] = _unfinished(session, training.listing, "TrainingJob")
        data["tuning_jobs"] = _unfinished(session, tuning.listing, "HyperParameterTuningJob")
        data["transform_jobs"] = _unfinished(session, transforming.listing, "TransformJob")
        data["endpoints"] = {one["EndpointName"]: one["EndpointStatus"] for one in hosting.listing(session)}
        rows += [(name.replace("_", " "), _listed(data[name])) for name in _RUNNING]
    rows.append(
        ("recorded", f"{len(alive) - len(paid)} on local, {len(paid)} on aws; kennel clean --on local|aws deletes them")
    )
    return Result(tables.pairs(rows), {**data, "recorded": len(alive)})


def _unfinished(session: Session, listing: Callable[..., list[dict[str, Any]]], kind: str) -> dict[str, str]:
    """Names of jobs that have not ended, with their status."""
    found = [job for status in ("InProgress", "Stopping") for job in listing(session, limit=_SHOWN, status=status)]
    return {job[f"{kind}Name"]: job[f"{kind}Status"] for job in found}


def _listed(statuses: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({status})" for name, status in statuses.items()) or "none"


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
    from kennel.driver.checks import datacheck  # Pillow and numpy

    hyperparameters = canonical(context.session.project.hyperparameters)
    report = datacheck.check(
        context.arguments.folder.expanduser(),
        context.session.reporter,
        validation_fraction=float(hyperparameters.get("validation_fraction", 0.2)),
        bad_images=str(hyperparameters.get("bad_images", "skip")),
    )
    verdict = "Training would begin." if report.is_usable else "Training would fail."
    return Result(f"{tables.levels(report.findings)}\n{verdict}", report.to_json(), 0 if report.is_usable else 1)
