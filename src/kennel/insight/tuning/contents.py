"""The page of a tuning job: what was found first, the proof after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from kennel.insight.report import formats
from kennel.insight.report.document import Document, Figure, KeyFigures, Section, Table, Text
from kennel.insight.tuning import charts
from kennel.insight.tuning.study import Study, Trial

KIND = "Tuning report"


def page_of(study: Study, importance: Mapping[str, float], remark: str) -> Document:
    """All sections that the trials allow."""
    sections = [_summary(study)]
    if study.measured:
        sections += [_parallel(study), _over_time(study), _importance(importance, remark), _slices(study)]
    sections.append(_trials(study))
    took = f", {formats.duration(study.seconds)}" if study.seconds is not None else ""
    return Document(
        title=study.name,
        subtitle=f"{study.strategy} search, {len(study.trials)} trials, {study.status}{took}",
        problems=_problems(study),
        sections=tuple(sections),
        footer=f"Created {study.created[:19].replace('T', ' ')}. Importance: PED-ANOVA (arXiv:2304.10255) by Optuna.",
        kind=KIND,
    )


def _problems(study: Study) -> tuple[str, ...]:
    failed = [trial for trial in study.trials if trial.end == "failed"]
    found = [f"Trial {trial.number} {trial.why}" for trial in failed[:5]]
    if len(failed) > 5:
        found.append(f"{len(failed) - 5} more trials failed")
    if not study.measured:
        found.append("No trial has a result.")
    return tuple(found)


def _summary(study: Study) -> Section:
    counts = Counter(trial.end for trial in study.trials)
    best = study.ranked[0] if study.measured else None
    trained_s = sum(trial.seconds or 0.0 for trial in study.trials)
    items = [
        ("trials", str(len(study.trials)), ", ".join(f"{count} {end}" for end, count in counts.most_common())),
        ("time of all trials", formats.duration(trained_s), "added up"),
    ]
    if best:
        items.insert(0, (f"best {study.metric}", f"{best.value:.4f}", f"trial {best.number}"))
    blocks: list[KeyFigures | Table | Text] = [KeyFigures(tuple(items))]
    if best:
        rows = tuple((one.name, _shown(best, one.name)) for one in study.parameters)
        blocks.append(Table(("tuned", f"trial {best.number}"), rows, half=True))
        tuned = {one.name for one in study.parameters}
        static = tuple((name, text) for name, text in study.static.items() if name not in tuned)
        if static:
            blocks.append(Table(("the same in all trials", ""), static, half=True))
    return Section("summary", "The best trial", tuple(blocks))


def _shown(trial: Trial, name: str) -> str:
    text = trial.hyperparameters.get(name, "")
    try:
        return text if len(text) <= 8 else f"{float(text):.6g}"
    except ValueError:
        return text


def _parallel(study: Study) -> Section:
    caption = (
        "Each line is a trial, from the worst (grey) to the best (orange) by rank. Where orange lines run together, "
        "good values lie; where they spread, the hyperparameter matters little. Point at a line to see its trial."
    )
    return Section("parallel", "All trials at once", (Figure("parallel", charts.parallel(study), caption),))


def _over_time(study: Study) -> Section:
    caption = "A point is a trial at its end; the line is the best result so far."
    return Section("time", "Objective over time", (Figure("time", charts.over_time(study), caption),))


def _importance(importance: Mapping[str, float], remark: str) -> Section:
    if not importance:
        return Section("importance", "What matters", (Text(remark),))
    caption = (
        "How far the values of the best trials are from being spread like those of all trials. Few trials make this a "
        "hint, no measurement."
    )
    return Section("importance", "What matters", (Figure("importance", charts.importances(importance), caption),))


def _slices(study: Study) -> Section:
    blocks = tuple(
        Figure(f"slice-{number}", charts.slice_of(study, one), f"{study.metric} over {one.name}", half=True)
        for number, one in enumerate(study.parameters)
    )
    return Section("slices", "One hyperparameter at a time", blocks)


def _trials(study: Study) -> Section:
    best = study.ranked[0].number if study.measured else None
    names = tuple(one.name for one in study.parameters)
    rows = tuple(
        (
            f"{trial.number} (best)" if trial.number == best else str(trial.number),
            *(_shown(trial, name) for name in names),
            "" if trial.value is None else f"{trial.value:.4f}",
            "" if trial.seconds is None else formats.duration(trial.seconds),
            trial.why,
        )
        for trial in study.trials
    )
    numbers = frozenset(range(1, len(names) + 3))
    marked = frozenset(place for place, trial in enumerate(study.trials) if trial.number == best)
    table = Table(("trial", *names, study.metric, "time", "ended"), rows, numbers, marked)
    return Section("trials", "All trials", (table,))
