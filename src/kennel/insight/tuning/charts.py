"""The page's charts as Vega-Lite specifications, made with Altair."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from kennel.insight.report import theme
from kennel.insight.report.document import Spec
from kennel.insight.tuning.study import Parameter, Study, Trial

_END_COLOURS = {
    "completed": theme.BLUE, "stopped early": theme.AMBER, "pruned": theme.ROSE, "stopped": theme.VIOLET,
    "running": theme.GREY,
}  # fmt: skip
_NARROW_PX = 480  # of a chart: a telephone
_WORST_TO_BEST = [theme.GREY, theme.SKY, theme.ORANGE]
_JITTER = 0.28  # of the room of a category


def _data(rows: list[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=pd.DataFrame(rows).to_dict("records"))


def _finish(chart: Any, *, height: int, describe: str) -> Spec:
    made: Spec = chart.properties(width="container", height=height, description=describe).to_dict()
    return made


def _end_of(trial: Trial) -> str:
    known = [end for end in _END_COLOURS if trial.end.startswith(end)]
    return known[0] if known else "running"


def _tooltips(study: Study) -> list[alt.Tooltip]:
    names = [alt.Tooltip("trial:Q"), alt.Tooltip("value:Q", title=study.metric, format=".4f")]
    return [
        *names,
        *(alt.Tooltip(f"{_key(one)}:N", title=one.name) for one in study.parameters),
        alt.Tooltip("ended:N"),
    ]


def _key(parameter: Parameter) -> str:
    return f"p_{parameter.name}"


def _row(study: Study, trial: Trial) -> dict[str, Any]:
    tried = {_key(one): _short(trial.hyperparameters.get(one.name, "")) for one in study.parameters}
    return {"trial": trial.number, "value": trial.value, "ended": trial.why, "end": _end_of(trial), **tried}


def _short(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def parallel(study: Study) -> Spec:
    """Parallel coordinates: an axis for each hyperparameter and one for the objective, a line for each trial."""
    ranked = study.ranked
    values = [trial.value for trial in ranked if trial.value is not None]
    objective = Parameter(study.metric, "continuous", min(values), max(*values, min(values) + 1e-9), "Linear")
    axes = [*study.parameters, objective]
    rows = []
    for rank, trial in enumerate(reversed(ranked)):  # the best last, and so on top
        share = rank / max(1, len(ranked) - 1)
        for at, axis in enumerate(axes):
            text = str(trial.value) if axis is objective else trial.hyperparameters.get(axis.name)
            if text is not None:
                rows.append({**_row(study, trial), "axis": at, "place": axis.place(text), "rank": share, "order": rank})
    pick = alt.selection_point(fields=["trial"], on="pointerover", clear="pointerout", empty=False, name="pick")
    color = alt.Color(
        "rank:Q", scale=alt.Scale(range=_WORST_TO_BEST, domain=[0, 0.5, 1], interpolate="rgb"),
        legend=alt.Legend(
            title="rank of the trial", values=[0, 1], labelExpr="datum.value == 1 ? 'best' : 'worst'",
            gradientLength=120, gradientThickness=8, orient="top", titleOrient="left",
        ),
    )  # fmt: skip
    lines = alt.Chart(_data(rows)).mark_line(interpolate="monotone").encode(
        x=_x(axes), y=_y("place"), color=color, detail="order:O", tooltip=_tooltips(study),
        opacity=alt.condition(pick, alt.value(1), alt.value(0.65)),
        strokeWidth=alt.condition(pick, alt.value(4), alt.value(1.8)),
    ).add_params(pick)  # fmt: skip
    below, above = _axes(axes)
    chart = below + lines + above
    return _finish(
        chart, height=340, describe="Parallel coordinates of all trials, coloured from the worst to the best"
    )


def _x(axes: list[Parameter]) -> alt.X:
    return alt.X("axis:Q", axis=None, scale=alt.Scale(domain=[-0.08, len(axes) - 1 + 0.45], nice=False, zero=False))


def _y(field: str) -> alt.Y:
    return alt.Y(f"{field}:Q", axis=None, scale=alt.Scale(domain=[-0.06, 1.14], nice=False))


def _axes(axes: list[Parameter]) -> tuple[Any, Any]:
    """What lies below the lines, and what above them; each label has a rim of the page's colour."""
    rules = [{"axis": at, "from": 0.0, "to": 1.0, "name": one.name} for at, one in enumerate(axes)]
    ticks = [
        {"axis": at, "place": place, "label": label} for at, one in enumerate(axes) for place, label in one.ticks()
    ]
    base = alt.Chart(_data(rules)).encode(x=_x(axes))
    rule = base.mark_rule(opacity=0.45).encode(y=_y("from"), y2="to:Q")
    bold: dict[str, Any] = {"baseline": "bottom", "fontWeight": 600}
    low, high = {"dy": -8}, {"dy": alt.expr(f"width < {_NARROW_PX} ? -24 : -8")}  # beside each other, or by turns above
    (*others, last), is_last_high = rules, len(rules) % 2 == 0
    title = _titles(others[::2], axes, align="left", dx=-4, **low, **bold)
    title += _titles(others[1::2], axes, align="left", dx=-4, **high, **bold)
    title += _titles([last], axes, align="right", dx=60, **(high if is_last_high else low), **bold)
    marks = alt.Chart(_data(ticks)).encode(x=_x(axes), y=_y("place"))
    label = marks.mark_text(align="left", dx=7, opacity=0.85, fontSize=11).encode(text="label:N")
    dash = marks.mark_point(shape="stroke", size=40, opacity=0.5)
    rim = marks.mark_text(
        align="left", dx=7, fontSize=11, stroke="var(--paper)", strokeWidth=4, strokeJoin="round"
    ).encode(text="label:N")  # fmt: skip
    return rule + dash, rim + title + label


def _titles(rules: list[dict[str, Any]], axes: list[Parameter], **style: Any) -> Any:
    return alt.Chart(_data(rules)).mark_text(**style).encode(x=_x(axes), y=_y("to"), text="name:N")


def over_time(study: Study) -> Spec:
    """The objective of each trial when it ended, and the best so far."""
    rows: list[dict[str, Any]] = []
    for trial in study.measured:
        if trial.begun_s is not None:
            minutes = (trial.begun_s + (trial.seconds or 0.0)) / 60
            rows.append({**_row(study, trial), "minutes": minutes})
    rows.sort(key=lambda row: row["minutes"])
    steps, best = [], None
    for row in rows:
        better = best is None or (row["value"] > best if study.maximize else row["value"] < best)
        best = row["value"] if better else best
        steps.append({"minutes": row["minutes"], "best": best})
    x = alt.X("minutes:Q", title="minutes since the tuning job began", scale=alt.Scale(zero=True))
    y = alt.Y("value:Q", title=study.metric, scale=alt.Scale(zero=False))
    line = alt.Chart(_data(steps)).mark_line(interpolate="step-after", color=theme.ORANGE, opacity=0.9).encode(
        x=x, y=alt.Y("best:Q", title=study.metric, scale=alt.Scale(zero=False))
    )  # fmt: skip
    points = alt.Chart(_data(rows)).mark_point(size=60, opacity=0.9).encode(
        x=x, y=y, color=_ends(rows), tooltip=_tooltips(study)
    )  # fmt: skip
    return _finish(line + points, height=230, describe="The objective of each trial at its end, and the best so far")


def _ends(rows: list[dict[str, Any]]) -> alt.Color:
    present = [end for end in _END_COLOURS if any(row["end"] == end for row in rows)]
    scale = alt.Scale(domain=present, range=[_END_COLOURS[end] for end in present])
    return alt.Color("end:N", scale=scale, legend=alt.Legend(symbolType="circle"))


def importances(shares: Mapping[str, float]) -> Spec:
    """A bar for each hyperparameter."""
    rows = [{"name": name, "share": 100 * share} for name, share in shares.items()]
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("share:Q", title="% of the importance", scale=alt.Scale(domain=[0, 100])),
        y=alt.Y("name:N", sort=sorted(shares, key=lambda name: -shares[name]), title=None),
    )
    bars = base.mark_bar(color=theme.BLUE, height=18).encode(tooltip=["name:N", alt.Tooltip("share:Q", format=".1f")])
    label = base.mark_text(align="left", dx=6).encode(text=alt.Text("share:Q", format=".0f"))
    return _finish(bars + label, height=34 * len(rows) + 10, describe="How much each hyperparameter matters")


def slice_of(study: Study, parameter: Parameter) -> Spec:
    """The objective over one hyperparameter."""
    rows = [
        {**_row(study, trial), "x": _position(parameter, trial), "jitter": _jitter(trial)}
        for trial in study.measured
        if parameter.name in trial.hyperparameters
    ]
    x: Any
    offset: dict[str, Any] = {}
    if parameter.kind == "categorical":
        x = alt.X("x:N", title=parameter.name, sort=list(parameter.values), axis=alt.Axis(labelAngle=0),
                  scale=alt.Scale(domain=list(parameter.values)))  # fmt: skip
        offset["xOffset"] = alt.XOffset("jitter:Q", scale=alt.Scale(domain=[-1, 1]))
    else:
        kind = "log" if parameter.is_log else "linear"
        axis = alt.Axis(format="d" if parameter.kind == "integer" else "~g", values=_labels(parameter))
        scale = alt.Scale(type=kind, domain=[parameter.low, parameter.high], nice=False)  # type: ignore[arg-type]
        x = alt.X("x:Q", title=parameter.name, scale=scale, axis=axis)
    chart = alt.Chart(_data(rows)).mark_point(size=60, opacity=0.9).encode(
        x=x, y=alt.Y("value:Q", title=study.metric, scale=alt.Scale(zero=False)), color=_ends(rows),
        tooltip=_tooltips(study), **offset,
    )  # fmt: skip
    return _finish(chart, height=200, describe=f"{study.metric} over {parameter.name}")


def _labels(parameter: Parameter) -> Any:
    """The powers of ten of a logarithmic axis, the whole numbers of one of integers; else what Vega finds best."""
    if parameter.is_log or parameter.kind == "integer":
        return [float(label) for _, label in parameter.ticks()]
    return alt.Undefined


def _position(parameter: Parameter, trial: Trial) -> str | float:
    text = trial.hyperparameters[parameter.name]
    return text if parameter.kind == "categorical" else float(text)


def _jitter(trial: Trial) -> float:
    """Keeps equal results apart; the same on each day."""
    return random.Random(trial.number).uniform(-_JITTER, _JITTER)  # noqa: S311 - no secret
