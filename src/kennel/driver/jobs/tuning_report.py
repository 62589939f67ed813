"""What a tuning job found: gathered from the API, judged by `kennel.insight`, written as text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kennel.contract.files import write_json
from kennel.contract.programs import INSIGHT
from kennel.driver import tables
from kennel.driver.errors import DriverError
from kennel.driver.jobs import tuning
from kennel.driver.jobs.trials import Trial, best_of
from kennel.driver.jobs.tuning import TuningState
from kennel.driver.jobs.tuning_watching import row_of
from kennel.driver.session.session import Session

_KINDS = {
    "ContinuousParameterRanges": "continuous",
    "IntegerParameterRanges": "integer",
    "CategoricalParameterRanges": "categorical",
}


@dataclass(frozen=True)
class Found:
    """A tuning job with its trials; importance and page once it was judged."""

    state: TuningState
    trials: tuple[Trial, ...]
    importance: Mapping[str, float] = field(default_factory=dict)  # shares, 1 in all
    page: Path | None = None
    remark: str = ""  # why something is missing

    @property
    def best(self) -> Trial | None:
        """The trial with the best objective."""
        return best_of(self.trials, self.state.objective)

    def to_json(self) -> dict[str, Any]:
        """Plain values: what --json prints and what `python -m kennel.insight tuning` reads."""
        state, best = self.state, self.best
        until = state.ended
        return {
            "tuning_job": state.name,
            "status": state.status,
            "strategy": state.strategy,
            "objective": {"metric": state.objective.metric, "maximize": state.objective.maximize},
            "created": state.created.isoformat(),
            "seconds": (until - state.created).total_seconds() if until else None,
            "parameters": parameters_of(state.request),
            "static": state.static,
            "trials": [_plain(trial, state) for trial in self.trials],
            "best": best.name if best else None,
            "importance": dict(self.importance),
            "page": str(self.page) if self.page else None,
        }


def _plain(trial: Trial, state: TuningState) -> dict[str, Any]:
    begun = (trial.started - state.created).total_seconds() if trial.started else None
    return {
        "number": trial.number, "name": trial.name, "status": trial.status, "why": trial.why or trial.status,
        "hyperparameters": dict(trial.hyperparameters), "value": trial.value, "begun_s": begun,
        "seconds": trial.seconds,
    }  # fmt: skip


def parameters_of(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was searched: name, kind, and low, high, scaling or values."""
    config = request["HyperParameterTuningJobConfig"]
    definition = request.get("TrainingJobDefinition") or {}
    ranges = definition.get("HyperParameterRanges") or config.get("ParameterRanges") or {}
    found: list[dict[str, Any]] = []
    for member, kind in _KINDS.items():
        for one in ranges.get(member) or []:
            if kind == "categorical":
                found.append({"name": one["Name"], "kind": kind, "values": [v.strip('"') for v in one["Values"]]})
            else:
                scaling = one.get("ScalingType", "Auto")
                low, high = float(one["MinValue"]), float(one["MaxValue"])
                found.append({"name": one["Name"], "kind": kind, "low": low, "high": high, "scaling": scaling})
    return found


def gather(session: Session, name: str) -> Found:
    """Ask for a tuning job and all of its trials.

    Raises:
        DriverError: there is none of this name.
    """
    state = tuning.describe(session, name)
    return Found(state, tuple(state.watch(session).look(state.cut_off)))


def judge(session: Session, found: Found, page: Path | None = None) -> Found:
    """Let `kennel.insight` find out what matters, and write the page.

    Args:
        session: whose home keeps the page where no other place is named.
        found: the tuning job.
        page: where to write it.

    Raises:
        DriverError: the page cannot be written.
    """
    place = (page or session.home.path / "reports" / f"{found.state.name}.html").expanduser().absolute()
    values = place.with_suffix(".json")
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(values, found.to_json())
    command = [sys.executable, "-m", INSIGHT, "tuning", str(values), "--output", str(place), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise DriverError(f"The page of {found.state.name} was not written: {reason}", " ".join(command))
    said = json.loads(done.stdout)
    return replace(found, importance=said["importance"], remark=said["remark"], page=place)


def text(found: Found) -> str:
    """All of it for a terminal."""
    state, best = found.state, found.best
    names = [one["name"] for one in parameters_of(state.request)]
    header = ("trial", *names, state.objective.metric, "time", "ended")
    rows = [[*row_of(trial, names), "best" if trial is best else ""] for trial in found.trials]
    parts = [tables.pairs(_summary(found)), tables.columns(rows, (*header, "")) if rows else ""]
    if found.importance or found.remark:
        parts.append(_importance(found))
    return "\n\n".join(part for part in parts if part)


def _summary(found: Found) -> list[tuple[str, Any]]:
    state, best = found.state, found.best
    seconds = (state.ended - state.created).total_seconds() if state.ended else None
    name = state.name
    return [
        ("tuning job", name),
        ("status", f"{state.status}{f': {state.failure}' if state.failure else ''}"),
        ("strategy", state.strategy),
        ("best", f"trial {best.number}, {state.objective.metric} {best.value:.4f}" if best else "none yet"),
        ("with", "  ".join(f"{key} {value}" for key, value in best.hyperparameters.items()) if best else ""),
        ("trials", _counts(found)),
        ("took", tables.duration(seconds)),
        ("page", found.page or ""),
        ("next", f"kennel train --from-tuning {name}, kennel deploy {name}" if best and state.is_over else ""),
    ]


def _counts(found: Found) -> str:
    kinds = Counter(re.split(r":| \(", trial.why or "in progress")[0] for trial in found.trials)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _importance(found: Found) -> str:
    ranked = sorted(found.importance.items(), key=lambda item: -item[1])
    rows = [(name, f"{100 * share:.0f} %", "#" * round(20 * share)) for name, share in ranked]
    return "\n".join(filter(None, [tables.columns(rows, ("importance", "", "")) if rows else "", found.remark]))
