"""The report of a run: its analysis as sections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from kennel.insight.profile import charts
from kennel.insight.profile.advice import Advice
from kennel.insight.profile.analysis import Analysis, Verdict
from kennel.insight.profile.measures import steps, usage
from kennel.insight.profile.measures.summary import Summary
from kennel.insight.profile.reading import phases, system
from kennel.insight.profile.rules.base import ISSUES, NOT_APPLICABLE
from kennel.insight.report import formats
from kennel.insight.report.document import Block, Change, Document, Figure, KeyFigures, Section, Table, Text

_OPERATORS = 15  # rows shown
_FINDINGS = 50
FOOTER = (
    "Shares and means leave out each worker's first step, which allocates, compiles and waits for the loader's start. "
    "Slow steps lie beyond the median by three robust standard deviations and a quarter of the median. What is "
    "expected of a change is computed from this run alone."
)


def report(analysis: Analysis) -> Document:
    """The whole report; sections that have nothing to show are left out."""
    made = (
        Section("advice", "What to change", tuple(_advice(analysis))),
        Section("summary", "The run", tuple(_job(analysis))),
        Section("steps", "Where each step’s time goes", tuple(_step_parts(analysis))),
        Section("time", "Over the time of the run", tuple(_over_time(analysis))),
        Section("slow", "Step durations and slow steps", tuple(_slow(analysis))),
        Section("data", "Data loading", tuple(_data(analysis))),
        Section("system", "System usage", tuple(_system(analysis))),
        Section("operators", "Operators by self time", tuple(_operators(analysis))),
        Section("memory", "Batch size and memory", tuple(_memory(analysis))),
        Section("balance", "Load balance", tuple(_balance(analysis))),
        Section("cost", "Cost", tuple(_cost(analysis))),
        Section("learning", "Learning curves", tuple(_learning(analysis))),
        Section("findings", "Findings of the debugger", tuple(_findings(analysis))),
        Section("rules", "Profiler rules", tuple(_rules(analysis))),
    )
    return Document(
        analysis.run.name,
        subtitle(analysis),
        analysis.problems,
        tuple(section for section in made if section.blocks),
        FOOTER,
    )


def subtitle(analysis: Analysis) -> str:
    """Network, device and time of the run, as far as they are known."""
    told: dict[str, Any] = dict(analysis.run.processes[0]) if analysis.run.processes else {}
    words = [
        told.get("arch") or analysis.run.hyperparameters.get("arch"),
        told.get("device_name") or told.get("device"),
        f"batch size {told['batch_size']}" if told.get("batch_size") else "",
        str(told.get("precision") or "").partition(" (")[0],
        f"{len(analysis.run.nodes)} nodes" if len(analysis.run.nodes) > 1 else "",
        formats.moment(analysis.summary.begin_s) if analysis.summary else "",
    ]
    return " · ".join(str(word) for word in words if word)


def _advice(analysis: Analysis) -> Iterator[Block]:
    for one in analysis.advice:
        yield Change(one.topic, one.change, gain(one), one.reason)
    if analysis.summary and analysis.summary.steps and not analysis.advice:
        yield Text("Nothing that was measured promises to save three percent of this run’s time or more.")
    if analysis.summary:
        yield KeyFigures(tuple(_key_figures(analysis, analysis.summary)))


def gain(one: Advice) -> str:
    """What a change brings, in words."""
    limit = "at most " if one.at_most else ""
    saved = f"saves {limit}{formats.duration(one.saves_s)} of this run"
    if one.step_s is None or one.expected_step_s is None or one.speedup is None:
        return saved
    step = f"{formats.ms(one.step_s)} → {formats.ms(one.expected_step_s)} ms a step"
    return f"{step}, {limit}{one.speedup:.1f} times as fast; {saved}"


def _key_figures(analysis: Analysis, whole: Summary) -> Iterator[tuple[str, str, str]]:
    yield "took", formats.duration(whole.duration_s), f"{whole.steps:,} steps, {whole.epochs} epochs"
    if len(analysis.steps):
        median_s = float(steps.steady(analysis.steps)["duration_s"].median())
        yield "a step", f"{formats.ms(median_s)} ms", "median"
    if analysis.loading:
        yield "waits for data", formats.percent(analysis.loading.wait_share), "of a step"
    if whole.images_per_second:
        yield "images", f"{whole.images_per_second:,.0f}/s", "last epoch"
    for metric, name in ((system.GPU, "GPU"), (system.CONTAINER_CPU, "CPU"), (system.CPU, "CPU")):
        mean = usage.mean(analysis.run.samples, metric)
        if mean is not None:
            yield name, f"{mean:.0f} %", "mean use"
            break
    if analysis.cost:
        yield "cost", formats.dollars(analysis.cost.usd), "estimate"


def _job(analysis: Analysis) -> Iterator[Block]:
    whole = analysis.summary
    if whole is None:
        return
    parts = _run_parts(whole)
    yield Figure("job_parts", charts.job_parts(parts), "How the run’s time is divided.")
    all_s = max(whole.duration_s, 1e-9)
    rows = [(name, formats.duration(s), formats.percent(s / all_s)) for name, s in parts.items() if s > 0.0005 * all_s]
    rows.append(("all", formats.duration(whole.duration_s), ""))
    yield Table(("part", "time", "share"), tuple(rows), frozenset({1, 2}), half=True)
    starts = analysis.run.events[analysis.run.events["part"].isin([phases.INITIALIZATION, phases.FINALIZATION])]
    if len(starts):
        sums = starts.groupby(["part", "name"], sort=False)["duration_s"].mean()
        cells = tuple(
            (f"{part}: {name.lower()}", formats.duration(s)) for (part, name), s in sums.items() if s >= 0.001
        )
        yield Table(("before and after the loop", "time"), cells, frozenset({1}), half=True)


def _run_parts(whole: Summary) -> dict[str, float]:
    known = whole.training_s + whole.validation_s + whole.checkpoint_s
    return {
        phases.INITIALIZATION: whole.initialization_s,
        "training": whole.training_s,
        phases.VALIDATION: whole.validation_s,
        phases.CHECKPOINT: whole.checkpoint_s,
        "other in the loop": max(0.0, whole.loop_s - known),
        phases.FINALIZATION: whole.finalization_s,
    }


def _step_parts(analysis: Analysis) -> Iterator[Block]:
    if analysis.steps.empty:
        return
    yield Figure("step_parts", charts.step_parts(analysis.steps), "Mean time of each part, over the steps.")
    whole = sum(analysis.typical_s.values())
    on_gpu = analysis.on_gpu_s
    rows = [
        (part, formats.ms(s), formats.percent(s / whole))
        + ((formats.ms(on_gpu[part]) if part in on_gpu else "",) if on_gpu else ())
        for part, s in sorted(analysis.typical_s.items(), key=lambda item: -item[1])
        if s > 0.0005 * whole
    ]
    header = ("part of a step", "ms", "share") + (("ms on the GPU’s clock",) if on_gpu else ())
    yield Table(header, tuple(rows), frozenset({1, 2, 3}))


def _over_time(analysis: Analysis) -> Iterator[Block]:
    run, whole = analysis.run, analysis.summary
    if whole is None:
        return
    quiet = (phases.INITIALIZATION, phases.VALIDATION, phases.CHECKPOINT, phases.FINALIZATION)
    spans = run.events[run.events["part"].isin(quiet)][["part", "start_s", "duration_s"]]
    chart = charts.utilisation(run.samples, whole.begin_s, whole.end_s, spans)
    if chart:
        yield Figure(
            "utilisation",
            chart,
            "Use of the machine, mean of all nodes. Grey: initialisation, validation, checkpoint, finalisation.",
        )
    if len(analysis.steps):
        slow = pd.DataFrame(
            [{"step": one.step, "start_s": one.start_s, "duration_s": one.duration_s} for one in analysis.slow]
        )
        made = charts.durations(analysis.steps, slow, whole.begin_s, whole.end_s, spans)
        yield Figure("durations", made, "Steps at the same time: median, range, and the slowest as points.")


def _slow(analysis: Analysis) -> Iterator[Block]:
    if len(analysis.steps) < 2:
        return
    chosen = steps.steady(analysis.steps)
    yield Figure(
        "histogram",
        charts.duration_histogram(chosen),
        "How many steps took how long; the last bar holds all longer ones.",
    )
    if not analysis.slow:
        yield Text("No step was much slower than the others.")
        return
    rows = [
        (
            f"{one.step:,}",
            one.worker,
            formats.ms(one.duration_s),
            f"{one.duration_s / one.typical_s:.1f} ×",
            doing(one),
            one.note,
        )
        for one in analysis.slow
    ]
    header = ("step", "worker", "ms", "of the median", "more than usual", "machine")
    width = len(header) if any(row[-1] for row in rows) else len(header) - 1
    yield Table(header[:width], tuple(row[:width] for row in rows), frozenset({0, 2, 3}))


def doing(one: steps.SlowStep) -> str:
    """The parts that make up a slow step's excess."""
    excess_s = sum(one.excess_s.values())
    kept = [(part, s) for part, s in one.excess_s.items() if s > 0.1 * excess_s]
    return ", ".join(f"{part} +{formats.ms(s)} ms" for part, s in kept[:3])


def _data(analysis: Analysis) -> Iterator[Block]:
    loading = analysis.loading
    if loading is None:
        return
    load = "hidden behind the steps" if loading.load_s is None else f"{formats.ms(loading.load_s)} ms"
    yield KeyFigures(
        (
            ("waits", f"{formats.ms(loading.wait_s)} ms", f"{formats.percent(loading.wait_share)} of a step"),
            (
                "a batch takes a loader",
                load,
                "measured in the loader" if loading.measured else "concluded from the wait",
            ),
            ("the rest of a step", f"{formats.ms(loading.compute_s)} ms", ""),
            ("loader processes", "?" if loading.workers is None else str(loading.workers), f"{loading.cores} cores"),
        )
    )
    if loading.load_s is not None and loading.workers is not None:
        yield Figure(
            "workers", charts.workers(loading), "A step’s expected duration by the number of loader processes."
        )


def _system(analysis: Analysis) -> Iterator[Block]:
    rows = [
        (
            row.node,
            row.metric,
            *(formats.quantity(value, row.unit) for value in (row.max, row.p99, row.p95, row.p50, row.min)),
        )
        for row in sorted(analysis.usage, key=lambda row: row.node)
    ]
    if rows:
        yield Table(("node", "metric", "max", "p99", "p95", "p50", "min"), tuple(rows), frozenset(range(2, 7)))


def _operators(analysis: Analysis) -> Iterator[Block]:
    window = next((one for one in analysis.run.operators if one.get("operators")), None)
    if window is None:
        return
    table = operator_table(window)
    if table.empty:
        return
    device = "GPU and CPU" if table["device_ms"].sum() else "CPU"
    steps_, first = window.get("steps", "?"), window.get("first_step", "?")
    yield Text(f"torch.profiler watched {steps_} steps from step {first}: self time on {device}.")
    yield Figure(
        "operators", charts.operators(table.head(_OPERATORS)), "Operators by self time, calls with all shapes together."
    )
    rows = [
        (row["name"], f"{row['calls']:,.0f}", f"{row['ms']:,.1f}", f"{row['share']:.1f} %", row["shapes"])
        for row in table.head(_OPERATORS).to_dict("records")
    ]
    yield Table(("operator", "calls", "self ms", "share", "inputs that cost most"), tuple(rows), frozenset({1, 2, 3}))


def operator_table(window: dict[str, Any]) -> pd.DataFrame:
    """Operators, all shapes together, the most expensive first: name, calls, ms, device_ms, share (%), shapes."""
    rows = [
        {
            "name": str(row.get("name")), "calls": row.get("calls") or 0,
            "device_ms": (row.get("self_device_us") or 0) / 1000,
            "ms": ((row.get("self_cpu_us") or 0) + (row.get("self_device_us") or 0)) / 1000,
            "shapes": shapes(row.get("shapes")),
        }
        for row in window["operators"] if isinstance(row, dict)
    ]  # fmt: skip
    if not rows:
        return pd.DataFrame(columns=["name", "calls", "ms", "device_ms", "share", "shapes"])
    table = pd.DataFrame(rows).sort_values("ms", ascending=False, kind="stable")
    made = table.groupby("name", sort=False, as_index=False).agg(
        calls=("calls", "sum"), ms=("ms", "sum"), device_ms=("device_ms", "sum"), shapes=("shapes", "first")
    )
    made["share"] = 100 * made["ms"] / max(made["ms"].sum(), 1e-9)
    return made.sort_values("ms", ascending=False, kind="stable", ignore_index=True)


def shapes(value: Any) -> str:
    """`32x64x56x56, 64x64x3x3`, with a better sign: the first inputs that are tensors."""
    tensors = [one for one in value or [] if isinstance(one, list) and one and not isinstance(one[0], list)]
    return ", ".join("×".join(str(side) for side in one) for one in tensors[:2])


def _memory(analysis: Analysis) -> Iterator[Block]:
    run = analysis.run
    items: list[tuple[str, str, str]] = []
    batch = run.number("batch_size")
    if batch:
        items.append(("batch size", f"{batch:,.0f}", "images a step, all processes"))
    for metric, name in ((system.GPU_MEMORY, "GPU memory"), (system.MEMORY, "memory")):
        values = run.samples[run.samples["metric"] == metric]["value"]
        if len(values):
            items.append((name, f"{values.max():.0f} %", f"at most; {100 - values.max():.0f} % never used"))
    held = analysis.steps["gpu_memory_bytes"].max() if len(analysis.steps) else -1
    if held > 0:
        items.append(("tensors on a GPU", formats.size(held), "peak of a step"))
    limit = run.number("memory_limit_bytes")
    if limit:
        items.append(("memory limit", formats.size(limit), "of the container"))
    if items:
        yield KeyFigures(tuple(items))


def _balance(analysis: Analysis) -> Iterator[Block]:
    balance = analysis.balance
    if balance is None:
        return
    kind = "GPUs" if balance.unit == "GPU" else "training processes (busy: all of a step but the wait for data)"
    a, b = balance.pair or ("", "")
    yield Text(
        f"The largest distance between the histograms of two {kind} is {balance.distance:.2f}: {a} and {b}. "
        f"0 is the same, 1 nothing in common."
    )
    yield Figure("balance", charts.balance(balance.histograms), "How often each was how busy; darker is more often.")
    rows = tuple((name, f"{mean:.0f} %") for name, mean in balance.means.items())
    yield Table((balance.unit, "busy, mean"), rows, frozenset({1}))


def _cost(analysis: Analysis) -> Iterator[Block]:
    cost, whole = analysis.cost, analysis.summary
    if cost is None or whole is None:
        return
    an_epoch = f"{formats.dollars(cost.usd / whole.epochs)}" if whole.epochs else ""
    items = [
        ("the run", formats.dollars(cost.usd), f"{cost.usd_per_hour:,.3f} USD an hour, all machines"),
        ("an epoch", an_epoch, "everything included"),
        ("waiting for data", formats.dollars(cost.waiting_usd), "of it bought no training"),
    ]
    yield KeyFigures(tuple(item for item in items if item[1]))
    if cost.source:
        yield Text(cost.source)


def _learning(analysis: Analysis) -> Iterator[Block]:
    for what in ("loss", "accuracy"):
        chart = charts.curve(analysis.run.epochs, what)
        if chart:
            yield Figure(f"curve_{what}", chart, f"{what.capitalize()} by epoch.", half=True)


def _findings(analysis: Analysis) -> Iterator[Block]:
    found = analysis.run.findings
    if not found:
        return
    rows = tuple(_finding(one) for one in found[:_FINDINGS])
    yield Table(("rule", "step", "what it found", "advice"), rows, marked=frozenset(range(len(rows))))
    if len(found) > _FINDINGS:
        yield Text(f"{len(found) - _FINDINGS} more are in findings.json.")


def _finding(one: dict[str, Any]) -> tuple[str, ...]:
    rest = {key: value for key, value in one.items() if key not in ("rule", "step", "mode")}
    what = str(one.get("sentence") or json.dumps(rest, ensure_ascii=False))
    return str(one.get("rule", "?")), f"{one.get('mode', '')} {one.get('step', '')}", what, str(one.get("advice", ""))


def _rules(analysis: Analysis) -> Iterator[Block]:
    if not analysis.verdicts:
        return
    marked = frozenset(place for place, one in enumerate(analysis.verdicts) if one.fired)
    header = ("rule", "triggered", "datapoints", "what it found", "advice", "parameters")
    yield Table(header, tuple(_rule_row(one) for one in analysis.verdicts), frozenset({1, 2}), marked)


def _rule_row(one: Verdict) -> tuple[str, ...]:
    word = {ISSUES: "fired", NOT_APPLICABLE: "does not apply"}.get(one.outcome.status, "quiet")
    advised = "; ".join(f"{two.change} ({gain(two)})" for two in one.advice)
    values = ", ".join(f"{name} {value}" for name, value in one.parameters.items() if name != "scan_interval_us")
    found = f"{word}: {one.about} {one.outcome.text}" if one.fired else f"{word}: {one.outcome.text}"
    advice = advised or (one.recommendation if one.fired else "")
    return one.rule, str(one.outcome.triggered), f"{one.outcome.datapoints:,}", found, advice, values
