"""Two runs side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kennel.insight.profile import charts
from kennel.insight.profile.analysis import Analysis
from kennel.insight.profile.contents import gain, subtitle
from kennel.insight.profile.measures import steps, usage
from kennel.insight.profile.reading import phases, system
from kennel.insight.report import formats
from kennel.insight.report.document import Block, Document, Figure, Section, Table, Text

_SAME = 0.02  # a ratio this near to 1 is called the same
_NOTHING = 1e-4  # what would be shown as zero is divided by no more


def comparison(first: Analysis, second: Analysis) -> Document:
    """A report of two runs; the second is measured against the first."""
    names = _names(first, second)
    sections = (
        Section("figures", "Side by side", tuple(_figures(first, second, names))),
        Section("steps", "A step", tuple(_steps(first, second, names))),
        Section("learning", "Learning", tuple(_learning(first, second, names))),
        Section("settings", "What was set differently", tuple(_settings(first, second, names))),
        Section("advice", "What to change", tuple(_advice((first, second), names))),
        Section("rules", "Profiler rules", tuple(_rules(first, second, names))),
    )
    problems = tuple(
        f"{name}: {text}" for one, name in zip((first, second), names, strict=True) for text in one.problems
    )
    about = f"{names[0]}: {subtitle(first)}  |  {names[1]}: {subtitle(second)}"
    kept = tuple(section for section in sections if section.blocks)
    footer = (
        "Ratios are the second run’s value by the first run’s. Shares and means leave out each worker’s first step."
    )
    return Document(f"{names[0]} and {names[1]}", about, problems, kept, footer)


def _names(first: Analysis, second: Analysis) -> tuple[str, str]:
    if first.run.name != second.run.name:
        return first.run.name, second.run.name
    return f"{first.run.name} (1)", f"{second.run.name} (2)"


def values(analysis: Analysis) -> dict[str, tuple[float, str]]:
    """What is compared: name -> value and unit (s, ms, %, /s, USD, score or none)."""
    whole, found = analysis.summary, dict[str, tuple[float, str]]()
    if whole:
        found["the run"] = (whole.duration_s, "s")
        found["initialisation"] = (whole.initialization_s, "s")
        found["steps"] = (float(whole.steps), "")
        if whole.images_per_second:
            found["images a second"] = (whole.images_per_second, "/s")
    if len(analysis.steps):
        durations = steps.steady(analysis.steps)["duration_s"]
        found["a step, mean"] = (float(durations.mean()), "ms")
        found["a step, p95"] = (float(durations.quantile(0.95)), "ms")
    if analysis.loading:
        found["wait for data"] = (analysis.loading.wait_s, "ms")
    for metric, name in (
        (system.GPU, "GPU"),
        (system.CONTAINER_CPU, "CPU of the container"),
        (system.CPU, "CPU"),
        (system.MEMORY, "memory"),
    ):
        mean = usage.mean(analysis.run.samples, metric)
        if mean is not None:
            found[f"{name}, mean"] = (mean, "%")
    if analysis.cost:
        found["cost"] = (analysis.cost.usd, "USD")
    last: dict[str, Any] = dict(analysis.run.epochs[-1]) if analysis.run.epochs else {}
    found |= {
        name.replace("_", " "): (float(last[name]), "score")
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
        if isinstance(last.get(name), (int, float))
    }
    return found


def _figures(first: Analysis, second: Analysis, names: tuple[str, str]) -> Iterator[Block]:
    ours, theirs = values(first), values(second)
    rows = []
    for name in {**ours, **theirs}:
        a, b = ours.get(name), theirs.get(name)
        ratio = f"{b[0] / a[0]:.2f} ×" if a and b and abs(a[0]) > _NOTHING else ""
        if ratio and a and b and abs(b[0] / a[0] - 1) < _SAME:
            ratio = "same"
        rows.append((name, _shown(a), _shown(b), ratio))
    if rows:
        yield Table(("", names[0], names[1], "ratio"), tuple(rows), frozenset({1, 2, 3}))


def _shown(value: tuple[float, str] | None) -> str:
    if value is None:
        return ""
    number, unit = value
    if unit == "s":
        return formats.duration(number)
    if unit == "ms":
        return f"{formats.ms(number)} ms"
    if unit == "USD":
        return formats.dollars(number)
    if unit in ("%", "/s"):
        return f"{number:,.0f}{' ' if unit == '%' else ''}{unit}"
    return f"{number:.4f}" if unit == "score" else f"{number:,.0f}"


def _steps(first: Analysis, second: Analysis, names: tuple[str, str]) -> Iterator[Block]:
    typical = {name: one.typical_s for one, name in zip((first, second), names, strict=True) if one.typical_s}
    if not typical:
        return
    yield Figure("compared_parts", charts.compared_parts(typical), "The parts of a step, mean.")
    if len(typical) == 2:
        a, b = typical.values()
        rows = [
            (part, formats.ms(a[part]), formats.ms(b[part]), f"{1000 * (b[part] - a[part]):+.1f}")
            for part in phases.STEP_PARTS
            if max(a[part], b[part]) > 0.0005 * sum(a.values())
        ]
        yield Table(("part of a step, ms", names[0], names[1], "difference"), tuple(rows), frozenset({1, 2, 3}))


def _learning(first: Analysis, second: Analysis, names: tuple[str, str]) -> Iterator[Block]:
    epochs = {name: one.run.epochs for one, name in zip((first, second), names, strict=True)}
    for metric in ("validation_loss", "validation_accuracy"):
        chart = charts.compared_curve(epochs, metric)
        if chart:
            yield Figure(f"compared_{metric}", chart, f"{metric.replace('_', ' ').capitalize()} by epoch.", half=True)


def _settings(first: Analysis, second: Analysis, names: tuple[str, str]) -> Iterator[Block]:
    ours, theirs = _told(first), _told(second)
    rows = tuple(
        (name, str(ours.get(name, "")), str(theirs.get(name, "")))
        for name in sorted({*ours, *theirs})
        if str(ours.get(name, "")) != str(theirs.get(name, ""))
    )
    if rows:
        yield Table(("setting", names[0], names[1]), rows)
    elif ours and theirs:
        yield Text("Nothing that the runs told of themselves differs.")


def _told(analysis: Analysis) -> dict[str, Any]:
    of_run = {"pid", "start_us", "job", "node", "rank", "local_rank"}
    told = {name: value for one in analysis.run.processes[:1] for name, value in one.items() if name not in of_run}
    return analysis.run.hyperparameters | told


def _advice(both: tuple[Analysis, Analysis], names: tuple[str, str]) -> Iterator[Block]:
    rows = [
        (name, one.change, gain(one)) for analysis, name in zip(both, names, strict=True) for one in analysis.advice
    ]
    if rows:
        yield Table(("run", "change", "what to expect"), tuple(rows))


def _rules(first: Analysis, second: Analysis, names: tuple[str, str]) -> Iterator[Block]:
    theirs = {verdict.rule: verdict for verdict in second.verdicts}
    rows = [(one.rule, one.outcome.text, theirs[one.rule].outcome.text) for one in first.verdicts if one.rule in theirs]
    marked = frozenset(
        place for place, row in enumerate(rows)
        if theirs[row[0]].fired or next(one for one in first.verdicts if one.rule == row[0]).fired
    )  # fmt: skip
    if rows:
        yield Table(("rule", *names), tuple(rows), marked=marked)
