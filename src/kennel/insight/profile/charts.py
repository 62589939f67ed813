"""The report's charts as Vega-Lite specifications, made with Altair from values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from kennel.insight.profile.measures import binning
from kennel.insight.profile.measures.loading import Loading
from kennel.insight.profile.reading import phases
from kennel.insight.report import theme
from kennel.insight.report.document import Spec

_SMALL = 190  # px high
PART_COLOURS = {
    phases.DATA: theme.ORANGE,
    phases.COPY: theme.AMBER,
    phases.FORWARD: theme.SKY,
    phases.BACKWARD: theme.BLUE,
    phases.OPTIMIZER: theme.GREEN,
    phases.SYNCHRONIZE: theme.VIOLET,
    phases.HOOK: theme.ROSE,
    phases.OTHER: theme.GREY,
}
RUN_COLOURS = {
    phases.INITIALIZATION: theme.AMBER,
    "training": theme.BLUE,
    phases.VALIDATION: theme.GREEN,
    phases.CHECKPOINT: theme.VIOLET,
    "other in the loop": theme.GREY,
    phases.FINALIZATION: theme.ROSE,
}
_NAMES = {
    "GPUUtilization": "GPU",
    "GPUMemoryUtilization": "GPU memory",
    "CPUUtilization": "CPU",
    "ContainerCPUUtilization": "CPU of the container",
    "MemoryUsedPercent": "memory",
    "I/OWaitPercentage": "I/O wait",
}


def _data(frame: pd.DataFrame) -> alt.InlineData:
    return alt.InlineData(values=frame.round(5).to_dict("records"))


def _scale(colours: Mapping[str, str], present: Sequence[str]) -> alt.Scale:
    names = [name for name in colours if name in present]
    return alt.Scale(domain=names, range=[colours[name] for name in names])


def _finish(chart: Any, *, height: int = _SMALL, describe: str) -> Spec:
    made: Spec = chart.properties(width="container", height=height, description=describe).to_dict()
    made.pop("config", None)  # Altair's own; ours is given where it is drawn
    return made


_LINES = alt.Legend(symbolType="stroke", symbolStrokeWidth=2.5, symbolSize=160)


def job_parts(parts: Mapping[str, float]) -> Spec:
    """One bar: how the run's time is divided. Seconds by the name of the part."""
    kept = {name: seconds for name, seconds in parts.items() if seconds > 0.001 * sum(parts.values())}
    rows, end_s = [], 0.0
    for name, seconds in kept.items():
        rows.append({"part": name, "from": end_s, "to": end_s + seconds, "seconds": seconds})
        end_s += seconds
    chart = alt.Chart(_data(pd.DataFrame(rows))).mark_bar(height=26).encode(
        x=alt.X("from:Q", title="seconds", scale=alt.Scale(domain=[0, end_s], nice=False)),
        x2="to:Q",
        color=alt.Color("part:N", scale=_scale(RUN_COLOURS, list(kept))),
        tooltip=["part:N", alt.Tooltip("seconds:Q", format=",.1f")],
    )  # fmt: skip
    return _finish(chart, height=34, describe="How the time of the run is divided")


def step_parts(steps: pd.DataFrame) -> Spec:
    """Stacked over the step number: mean milliseconds of each part."""
    binned = binning.steps_binned(steps)
    present = [part for part in phases.STEP_PARTS if binned[part].max() > 0]
    ends = pd.concat([binned, binned.tail(1).assign(first=binned["last"].max() + 1)])  # where the last stair ends
    table = ends.melt(id_vars=["first"], value_vars=present, var_name="part", value_name="seconds")
    table["ms"] = 1000 * table.pop("seconds")
    table["order"] = table["part"].map({part: place for place, part in enumerate(phases.STEP_PARTS)})
    chart = alt.Chart(_data(table)).mark_area(interpolate="step-after").encode(
        x=alt.X("first:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=1, format=",d")),
        y=alt.Y("ms:Q", stack="zero", title="ms a step"),
        color=alt.Color("part:N", scale=_scale(PART_COLOURS, present)),
        order="order:O",
        tooltip=["part:N", alt.Tooltip("ms:Q", format=",.1f"), alt.Tooltip("first:Q", title="from step", format=",d")],
    )  # fmt: skip
    return _finish(chart, height=240, describe="Where the time of each step goes, stacked, over the steps")


def utilisation(samples: pd.DataFrame, begin_s: float, end_s: float, spans: pd.DataFrame) -> Spec | None:
    """Percent used over the run's time, mean of all nodes; behind it what was no training. None without samples."""
    table = binning.usage_binned(samples, _NAMES)
    if table.empty:
        return None
    table = table.groupby(["time_s", "name"], as_index=False)["value"].mean()
    table["time_s"] -= begin_s
    x = alt.X("time_s:Q", title="seconds since the run began", scale=_time(begin_s, end_s))
    lines = alt.Chart(_data(table)).mark_line(clip=True).encode(
        x=x,
        y=alt.Y("value:Q", title="%", scale=alt.Scale(domain=[0, 100])),
        color=alt.Color("name:N", scale=_scale(theme.USAGE_COLOURS, list(table["name"].unique())), legend=_LINES),
        tooltip=["name:N", alt.Tooltip("value:Q", format=".0f"), alt.Tooltip("time_s:Q", title="second")],
    )  # fmt: skip
    return _finish(
        _bands(spans, begin_s) + lines, height=220, describe="Use of CPU, GPU and memory over the time of the run"
    )


def durations(steps: pd.DataFrame, slow: pd.DataFrame, begin_s: float, end_s: float, spans: pd.DataFrame) -> Spec:
    """Step durations over the same time: the middle of each bin, its range, and the slow steps."""
    table = binning.steps_binned(steps)[["start_s", "median_s", "min_s", "max_s", "first"]]
    table["time_s"] = table.pop("start_s") - begin_s
    table[["median", "low", "high"]] = 1000 * table[["median_s", "min_s", "max_s"]]
    base = alt.Chart(_data(table.drop(columns=["median_s", "min_s", "max_s"]))).encode(
        x=alt.X("time_s:Q", title="seconds since the run began", scale=_time(begin_s, end_s))
    )
    band = base.mark_area(opacity=0.25, color=theme.BLUE, clip=True).encode(
        y=alt.Y("low:Q", title="ms a step"), y2="high:Q"
    )
    line = base.mark_line(color=theme.BLUE, clip=True).encode(
        y="median:Q", tooltip=[alt.Tooltip("first:Q", title="step"), alt.Tooltip("median:Q", title="ms", format=",.1f")]
    )
    layers = _bands(spans, begin_s) + band + line
    if len(slow):
        points = slow.assign(time_s=slow["start_s"] - begin_s, ms=1000 * slow["duration_s"])[["time_s", "ms", "step"]]
        layers += alt.Chart(_data(points)).mark_point(color=theme.ORANGE, opacity=1, clip=True).encode(
            x="time_s:Q", y="ms:Q", tooltip=["step:Q", alt.Tooltip("ms:Q", format=",.0f")]
        )  # fmt: skip
    return _finish(layers, height=170, describe="Durations of steps over the time of the run")


def _time(begin_s: float, end_s: float) -> alt.Scale:
    return alt.Scale(domain=[0, max(end_s - begin_s, 1e-3)], nice=False)


def _bands(spans: pd.DataFrame, begin_s: float) -> Any:
    """What was no training, as faint bands behind the lines."""
    table = spans.assign(**{"from": spans["start_s"] - begin_s, "to": spans["start_s"] + spans["duration_s"] - begin_s})
    return alt.Chart(_data(table[["from", "to", "part"]])).mark_rect(opacity=0.13, color=theme.GREY, clip=True).encode(
        x="from:Q", x2="to:Q", tooltip=["part:N"]
    )  # fmt: skip


def duration_histogram(steps: pd.DataFrame) -> Spec:
    """How many steps took how long."""
    table = binning.histogram(1000 * steps["duration_s"])
    chart = alt.Chart(_data(table.assign(none=0))).mark_rect(color=theme.BLUE).encode(
        x=alt.X("from:Q", title="ms a step", scale=alt.Scale(zero=False, nice=False)),
        x2="to:Q",
        y=alt.Y("count:Q", title="steps"),
        y2="none:Q",
        tooltip=[alt.Tooltip("from:Q", format=",.1f"), alt.Tooltip("to:Q", format=",.1f"), "count:Q"],
    )  # fmt: skip
    return _finish(chart, height=150, describe="How many steps took how long")


def workers(loading: Loading) -> Spec:
    """A step's expected duration by the number of loader processes; the present number and the advised one marked."""
    best = loading.best_workers()
    numbers = range(max(loading.limit, best, loading.workers or 0) + 1)
    role = {best: "advised", loading.workers: "now"} if best != loading.workers else {best: "now"}
    rows = [
        {"workers": number, "ms": 1000 * (loading.step_s if number == loading.workers else loading.predicted_s(number)),
         "role": role.get(number, "expected")}
        for number in numbers
    ]  # fmt: skip
    colours = {"now": theme.ORANGE, "advised": theme.GREEN, "expected": theme.GREY}
    chart = alt.Chart(_data(pd.DataFrame(rows))).mark_bar().encode(
        x=alt.X("workers:O", title="num_workers", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("ms:Q", title="ms a step"),
        color=alt.Color("role:N", scale=_scale(colours, [str(row["role"]) for row in rows])),
        tooltip=["workers:O", alt.Tooltip("ms:Q", format=",.0f"), "role:N"],
    )  # fmt: skip
    return _finish(chart, height=170, describe="Expected duration of a step by the number of loader processes")


def operators(rows: pd.DataFrame) -> Spec:
    """The most expensive operators: share of the self time of all."""
    chart = alt.Chart(_data(rows[["name", "share", "ms", "calls"]])).mark_bar(color=theme.BLUE).encode(
        x=alt.X("share:Q", title="% of all operators' self time"),
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
        tooltip=["name:N", alt.Tooltip("ms:Q", format=",.1f"), "calls:Q"],
    )  # fmt: skip
    return _finish(chart, height=22 * len(rows), describe="Operators by self time")


def balance(histograms: Mapping[str, Sequence[float]]) -> Spec:
    """A worker a row: how often it was how busy."""
    rows = [
        {"worker": worker, "from": 10 * place, "to": 10 * place + 10, "share": 100 * share}
        for worker, shares in histograms.items()
        for place, share in enumerate(shares)
    ]
    chart = alt.Chart(_data(pd.DataFrame(rows))).mark_rect(color=theme.BLUE).encode(
        x=alt.X("from:Q", bin="binned", title="% busy"),
        x2="to:Q",
        y=alt.Y("worker:N", title=None),
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 100], range=[0.05, 1]), legend=None),
        tooltip=["worker:N", "from:Q", alt.Tooltip("share:Q", format=".0f", title="% of the time")],
    )  # fmt: skip
    return _finish(chart, height=30 * len(histograms), describe="How busy each worker was")


def curve(epochs: Sequence[Mapping[str, Any]], what: str) -> Spec | None:
    """`train_<what>` and `validation_<what>` over the epochs; None where there is neither."""
    rows = [
        {"epoch": row.get("epoch", number), "of": of, "value": row[f"{of}_{what}"]}
        for number, row in enumerate(epochs, 1)
        for of in ("train", "validation")
        if isinstance(row.get(f"{of}_{what}"), (int, float))
    ]
    if not rows:
        return None
    colours = dict(zip(("train", "validation"), theme.PAIR, strict=True))
    chart = alt.Chart(_data(pd.DataFrame(rows))).mark_line(point=True).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("value:Q", title=what, scale=alt.Scale(zero=False)),
        color=alt.Color("of:N", scale=_scale(colours, ["train", "validation"]), legend=_LINES),
        tooltip=["of:N", "epoch:Q", alt.Tooltip("value:Q", format=".4f")],
    )  # fmt: skip
    return _finish(chart, height=170, describe=f"{what} over the epochs")


def compared_parts(typical: Mapping[str, Mapping[str, float]]) -> Spec:
    """A bar a run: the parts of its typical step."""
    rows = [
        {"run": run, "part": part, "ms": 1000 * seconds, "order": place}
        for run, parts in typical.items()
        for place, (part, seconds) in enumerate(parts.items())
        if seconds > 0
    ]
    chart = alt.Chart(_data(pd.DataFrame(rows))).mark_bar(height=26).encode(
        x=alt.X("ms:Q", title="ms a step"),
        y=alt.Y("run:N", sort=None, title=None, axis=alt.Axis(labelLimit=220)),
        color=alt.Color("part:N", scale=_scale(PART_COLOURS, [str(row["part"]) for row in rows])),
        order="order:O",
        tooltip=["run:N", "part:N", alt.Tooltip("ms:Q", format=",.1f")],
    )  # fmt: skip
    return _finish(chart, height=44 * len(typical), describe="The parts of a step in both runs")


def compared_curve(epochs: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> Spec | None:
    """A metric over the epochs of several runs; None where no run has it."""
    rows = [
        {"epoch": row.get("epoch", number), "run": run, "value": row[metric]}
        for run, lines in epochs.items()
        for number, row in enumerate(lines, 1)
        if isinstance(row.get(metric), (int, float))
    ]
    if not rows:
        return None
    colours = dict(zip(epochs, theme.PAIR, strict=False))
    chart = alt.Chart(_data(pd.DataFrame(rows))).mark_line(point=True).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("value:Q", title=metric.replace("_", " "), scale=alt.Scale(zero=False)),
        color=alt.Color("run:N", scale=_scale(colours, list(epochs)), legend=_LINES),
        tooltip=["run:N", "epoch:Q", alt.Tooltip("value:Q", format=".4f")],
    )  # fmt: skip
    return _finish(chart, height=170, describe=f"{metric} over the epochs of both runs")
