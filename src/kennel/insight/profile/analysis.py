"""A run, read and understood: everything that the report shows, as values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kennel.insight.profile import advice as advising
from kennel.insight.profile.measures import balance as balancing
from kennel.insight.profile.measures import loading as loadings
from kennel.insight.profile.measures import steps as stepping
from kennel.insight.profile.measures import summary as summaries
from kennel.insight.profile.measures import usage as using
from kennel.insight.profile.reading import phases
from kennel.insight.profile.reading.run import Run
from kennel.insight.profile.rules import build
from kennel.insight.profile.rules.base import ISSUES, Evidence, Outcome, ProfilerRule, parameters


@dataclass(frozen=True)
class Verdict:
    """A rule, its parameters, and what it found."""

    rule: str
    about: str
    recommendation: str
    parameters: dict[str, Any]
    outcome: Outcome
    advice: tuple[advising.Advice, ...] = ()  # with numbers, where the run's numbers give some

    @property
    def fired(self) -> bool:
        """Whether the rule found something."""
        return self.outcome.status == ISSUES


@dataclass(frozen=True)
class Analysis:
    """What a report shows."""

    run: Run
    steps: pd.DataFrame
    summary: summaries.Summary | None
    usage: list[using.Usage]
    typical_s: dict[str, float]  # seconds of the parts of a step
    on_gpu_s: dict[str, float]  # the same by the GPU's clock; empty without a GPU
    slow: list[stepping.SlowStep]
    loading: loadings.Loading | None
    balance: balancing.Balance | None
    cost: summaries.Cost | None
    advice: list[advising.Advice]
    verdicts: list[Verdict]
    problems: tuple[str, ...]


def analyse(
    run: Run,
    rules: Mapping[str, ProfilerRule] | None = None,
    usd_per_hour: float | None = None,
    price_source: str = "",
) -> Analysis:
    """Compute everything.

    Args:
        run: as it was read.
        rules: with their parameters; None: all of them with their defaults.
        usd_per_hour: price of all machines of the run; None: no cost is shown.
        price_source: where it comes from.
    """
    table = stepping.table(run.events)
    whole = summaries.summarise(run, table)
    loaded, balanced = loadings.measure(run, table), balancing.measure(run, table)
    evidence = Evidence(run, table, whole, loaded, balanced)
    given = advising.advise(evidence)
    wait = loaded.wait_share if loaded else 0.0
    return Analysis(
        run,
        table,
        whole,
        using.summary(run.samples),
        stepping.typical(table),
        on_gpu(run.events),
        stepping.slow(table, run.samples),
        loaded,
        balanced,
        summaries.cost(whole, wait, usd_per_hour, price_source) if whole and usd_per_hour is not None else None,
        given,
        [_verdict(name, rule, evidence, given) for name, rule in (build({}) if rules is None else rules).items()],
        (*run.problems, *_no_steps(table, run), *stepping.missing_numbers(table)),
    )


def _no_steps(table: pd.DataFrame, run: Run) -> list[str]:
    """What to say of a run that ended before it trained."""
    return ["The timeline has no training step."] if table.empty and len(run.events) else []


def _verdict(name: str, rule: ProfilerRule, evidence: Evidence, given: list[advising.Advice]) -> Verdict:
    outcome = rule.evaluate(evidence)
    own = tuple(one for one in given if one.rule == name)
    return Verdict(name, rule.about, rule.recommendation, parameters(rule), outcome, own)


def on_gpu(events: pd.DataFrame) -> dict[str, float]:
    """Mean seconds of each part of a training step by the GPU's own clock."""
    own = events[(events["part"] == phases.ON_GPU) & events["mode"].isin(["", "TRAIN"])]
    sums = own.groupby(["node", "pid", "step", "name"])["duration_s"].sum()
    means = sums.groupby("name").mean()
    return {phases.part_of(name) or name: float(seconds) for name, seconds in means.items()}


def to_json(analysis: Analysis) -> dict[str, Any]:
    """The analysis as plain values, for programs."""
    return {
        "run": analysis.run.name,
        "problems": list(analysis.problems),
        "summary": dataclasses.asdict(analysis.summary) if analysis.summary else None,
        "step_seconds": analysis.typical_s,
        "step_seconds_on_gpu": analysis.on_gpu_s,
        "usage": [dataclasses.asdict(row) for row in analysis.usage],
        "slow_steps": [dataclasses.asdict(one) for one in analysis.slow],
        "loading": dataclasses.asdict(analysis.loading) if analysis.loading else None,
        "balance": dataclasses.asdict(analysis.balance) if analysis.balance else None,
        "cost": dataclasses.asdict(analysis.cost) if analysis.cost else None,
        "advice": [dataclasses.asdict(one) | {"speedup": one.speedup} for one in analysis.advice],
        "rules": [rule_json(verdict) | {"rule": verdict.rule} for verdict in analysis.verdicts],
    }


def rule_json(verdict: Verdict) -> dict[str, Any]:
    """A rule's file in `profiler-report/`, with the names that AWS's own files have."""
    outcome = verdict.outcome
    return {
        "RuleTriggered": outcome.triggered,
        "Violations": outcome.triggered,
        "Details": outcome.details,
        "Datapoints": outcome.datapoints,
        "RuleParameters": "\n".join(f"{name}:{value}" for name, value in verdict.parameters.items()),
        "Status": outcome.status,
        "Message": outcome.text,
        "Recommendation": verdict.recommendation,
        "Advice": [dataclasses.asdict(one) for one in verdict.advice],
    }
