"""Rules over a run: each step is shown to each rule once; a rule that crashes is out, and hurts no other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kennel.contract.files import write_json
from kennel.insight.errors import InsightError
from kennel.insight.judging.choice import Choice
from kennel.insight.rules import RULES
from kennel.insight.tensors.finding import Finding, Status, Verdict
from kennel.insight.tensors.sources import Source
from kennel.insight.tensors.trial import Step, Trial

SCHEMA = 1
_KEPT = 20  # findings of a rule; the rest is counted
_KEPT_NOTES = 20


class Judge(Protocol):
    """What the evaluation asks of a rule; `Rule` is one, and `custom.CustomRule`."""

    datapoints: int  # values judged

    @property
    def parameters(self) -> dict[str, Any]:
        """Values of all parameters."""

    def look(self, step: Step) -> Iterator[Finding]:
        """Judge a step that is complete."""

    def wait(self, now_s: float) -> Iterator[Finding]:
        """Judge that nothing was saved until now, in seconds since 1970."""

    def finish(self) -> Iterator[Finding]:
        """Judge what only the end shows."""

    def lacking(self) -> str:
        """Why the rule could judge nothing; empty when it could."""


Maker = Callable[[Trial], Judge]


@dataclass
class _Seat:
    """A rule, and what has come of it."""

    name: str
    make: Maker
    rule: Judge | None = None
    triggered: int = 0
    error: str = ""
    findings: list[Finding] = field(default_factory=list)

    def verdict(self, *, ended: bool, without_tensors: str) -> Verdict:
        """What has come of it; `without_tensors`: why, where there was nothing to look at."""
        parameters = self.rule.parameters if self.rule else {}
        datapoints = self.rule.datapoints if self.rule else 0
        lacking = "" if self.triggered or self.error else self.rule.lacking() if self.rule else without_tensors
        status = Status.NO_ISSUES_FOUND if ended else Status.IN_PROGRESS
        if lacking and ended:
            status = Status.NOT_ENOUGH_DATA
        if self.triggered:
            status = Status.ISSUES_FOUND
        if self.error:
            status = Status.ERROR
        return Verdict(self.name, status, self.triggered, datapoints, self.error or lacking, parameters)


_UNREAD = "not enough data: no tensors were saved, or they cannot be read; the note says why"
_NO_TENSORS = "not enough data: no tensors were saved (debugger=off, or the training ended before its first save)"


class Evaluation:
    """Rules and the run that they judge. `advance` may be called again and again while the run goes on."""

    def __init__(self, source: Source, makers: Iterable[tuple[str, Maker]], scratch: Path) -> None:
        """Prepare; the tensors may come later."""
        self._source = source
        self._scratch = scratch
        self._seats = [_Seat(name, make) for name, make in makers]
        self._trial: Trial | None = None
        self._problem = ""
        self.ended = False

    def advance(self, *, final: bool = False, now_s: float | None = None) -> list[Finding]:
        """Look at what is new, and return what fired.

        Args:
            final: no more will come; what only the end shows is judged, too.
            now_s: the time, in seconds since 1970, while the training runs.
        """
        new: list[Finding] = []
        for step in self._new_steps(final=final):
            new += self._ask_all(lambda rule, step=step: rule.look(step))  # type: ignore[misc]
        if now_s is not None:
            new += self._ask_all(lambda rule: rule.wait(now_s))
        if final and not self.ended:
            new += self._ask_all(lambda rule: rule.finish())
            self.ended = True
        return new

    def _new_steps(self, *, final: bool) -> Sequence[Step]:
        try:
            self._source.refresh()
            if self._trial is None:
                self._trial = self._open()
        except InsightError as error:
            self._problem = str(error)
        return self._trial.refresh(final=final) if self._trial else ()

    def _open(self) -> Trial | None:
        folder = self._source.folder()
        if folder is None:
            return None
        trial = Trial(folder, self._scratch)
        self._problem = ""
        for seat in self._seats:
            with _noted(seat):
                seat.rule = seat.make(trial)
        return trial

    def _ask_all(self, question: Callable[[Judge], Iterator[Finding]]) -> list[Finding]:
        new: list[Finding] = []
        for seat in self._seats:
            if seat.rule is None or seat.error:
                continue
            with _noted(seat):
                for finding in question(seat.rule):
                    new += self._take(seat, finding)
        return new

    @staticmethod
    def _take(seat: _Seat, finding: Finding) -> list[Finding]:
        """The finding, where its tensor has none yet and there is room; else it is only counted."""
        seat.triggered += 1
        if len(seat.findings) >= _KEPT or any(known.tensor == finding.tensor for known in seat.findings):
            return []
        seat.findings.append(finding)
        return [finding]

    @property
    def verdicts(self) -> list[Verdict]:
        """One a rule."""
        lacking = _UNREAD if self._problem else _NO_TENSORS
        return [seat.verdict(ended=self.ended, without_tensors=lacking) for seat in self._seats]

    @property
    def findings(self) -> list[Finding]:
        """The kept ones of all rules."""
        return [finding for seat in self._seats for finding in seat.findings]

    @property
    def notes(self) -> list[str]:
        """What could not be read."""
        notes = [self._problem] if self._problem else []
        if self._trial:
            notes += self._trial.notes[:_KEPT_NOTES]
            more = len(self._trial.notes) - _KEPT_NOTES
            notes += [f"{more} more could not be read."] if more > 0 else []
        return notes

    def to_json(self) -> dict[str, Any]:
        """The file findings.json."""
        return {
            "schema": SCHEMA,
            "source": self._source.text,
            "ended": self.ended,
            "steps": len(self._trial.steps) if self._trial else 0,
            "rules": [verdict.to_json() for verdict in self.verdicts],
            "findings": [finding.to_json() for finding in self.findings],
            "notes": self.notes,
        }

    def write(self, file: Path) -> None:
        """Write findings.json, all of it or nothing of it."""
        write_json(file, self.to_json())


class _noted:  # noqa: N801 - reads as a function
    """What a rule raises becomes its error."""

    def __init__(self, seat: _Seat) -> None:
        self._seat = seat

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        if not isinstance(error, Exception):
            return False
        place = traceback.extract_tb(trace)[-1]
        where = "" if isinstance(error, InsightError) else f" ({Path(place.filename).name}, line {place.lineno})"
        kind_of = "" if isinstance(error, InsightError) else f"{type(error).__name__}: "
        self._seat.error = f"{kind_of}{error}{where}"
        return True


def makers_of(choices: Iterable[Choice]) -> list[tuple[str, Maker]]:
    """How the chosen rules are made."""
    return [
        (choice.rule, lambda trial, choice=choice: RULES[choice.rule](trial, choice.parameters))  # type: ignore[misc]
        for choice in choices
    ]
