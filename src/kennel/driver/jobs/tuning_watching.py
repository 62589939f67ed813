"""A tuning job while it goes on: a table of its trials on a terminal, a line for each that ends elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from kennel.driver import tables
from kennel.driver.jobs import tuning
from kennel.driver.jobs.trials import Trial, best_of, short
from kennel.driver.jobs.tuning import TuningState
from kennel.driver.requests.tuning import Objective
from kennel.driver.session.reporting import Board, finishing
from kennel.driver.session.session import Session

_REASON_CHARS = 100


class Follower:
    """Tells what is new."""

    def __init__(self, session: Session, name: str) -> None:
        self._session, self._name = session, name
        self._told: set[str] = set()

    def run(self, *, timeout_s: float | None = None) -> TuningState:
        """Until the tuning job is over.

        Raises:
            DriverError: it may not be described.
            WaitTimeoutError: it goes on for longer than `timeout_s`.
        """
        with finishing(self._session.reporter):
            return tuning.follow(self._session, self._name, self._tell, timeout_s=timeout_s)

    def _tell(self, state: TuningState, trials: list[Trial]) -> None:
        reporter, best = self._session.reporter, best_of(trials, state.objective)
        for trial in trials:
            if trial.is_over and trial.name not in self._told:
                self._told.add(trial.name)
                mark = "  best so far" if trial is best else ""
                reporter.say(f"trial {trial.number}  {described(trial, state.objective)}  {trial.why}{mark}")
        if not state.is_over:
            reporter.board(board(state, trials))


def described(trial: Trial, objective: Objective) -> str:
    """What was tried and what came of it, in one line."""
    tried = "  ".join(f"{name} {short(value)}" for name, value in trial.hyperparameters.items())
    result = "no result" if trial.value is None else f"{objective.metric} {trial.value:.4f}"
    return f"{tried}  {result}"


def board(state: TuningState, trials: Sequence[Trial]) -> Board:
    """All trials so far as a table."""
    best = best_of(trials, state.objective)
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    rows = [row_of(trial, names) for trial in trials]
    whole = f" of {state.max_jobs}" if state.max_jobs else ""
    footer = f"best so far: trial {best.number}, {state.objective.metric} {best.value:.4f}" if best else ""
    return Board(
        f"{state.name}  {state.strategy}  {len(trials)}{whole} trials",
        ("trial", *names, state.objective.metric, "time", ""),
        rows,
        marked=trials.index(best) if best else None,
        footer=f"{footer}   Ctrl-C leaves it running".strip(),
    )


def cut(text: str) -> str:
    """A reason as long as a row has room for it; --json and the page have all of it."""
    return text if len(text) <= _REASON_CHARS else text[: _REASON_CHARS - 1] + "…"


def row_of(trial: Trial, names: Sequence[str]) -> list[str]:
    """A trial as a table shows it."""
    tried = [short(trial.hyperparameters.get(name, "")) for name in names]
    value = "" if trial.value is None else f"{trial.value:.4f}"
    state = cut(trial.why) if trial.is_over else f"epoch {trial.epoch}" if trial.epoch else "starting"
    return [str(trial.number), *tried, value, tables.duration(trial.seconds), state]
