"""How long finished jobs were billed for, asked once and kept in the record."""

from __future__ import annotations

from kennel.driver.endpoints import transform as transforming
from kennel.driver.errors import DriverError
from kennel.driver.jobs import training, tuning
from kennel.driver.jobs.trials import list_trials
from kennel.driver.session import connection
from kennel.driver.session.record import Entry
from kennel.driver.session.session import Session


def refresh(session: Session) -> None:
    """Ask about recorded jobs whose duration is not known yet; what cannot be asked stays unknown.

    The local SageMaker is not started for it: its jobs cost nothing.
    """
    if session.is_local and connection.find(session.home) is None:
        return
    for entry in session.record.alive():
        if entry.on == session.project.on and "billable_s" not in entry.details:
            try:
                _ask(session, entry)
            except DriverError as error:
                session.reporter.say(f"{entry.kind} {entry.name}: {error}")


def _ask(session: Session, entry: Entry) -> None:
    if entry.kind not in (training.KIND, transforming.KIND, tuning.KIND):
        return
    if (entry.account, entry.region) != (session.account, session.clients.region):
        return
    if entry.kind == transforming.KIND:
        transforming.note_duration(session, entry.name, transforming.describe(session, entry.name))
        return
    if entry.kind == tuning.KIND:
        note_tuning(session, entry.name)
        return
    state = training.describe(session, entry.name)
    if state.is_over:
        session.record.note(entry.kind, entry.name, entry.on, billable_s=state.billable_s)


def note_tuning(session: Session, name: str) -> None:
    """Keep how long the trials of a finished tuning job trained, all together; they are billed one by one."""
    state = tuning.describe(session, name)
    if state.is_over:
        seconds = sum(trial.seconds or 0 for trial in list_trials(session, name))
        session.record.note(tuning.KIND, name, session.project.on, billable_s=seconds)
