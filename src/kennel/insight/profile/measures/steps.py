"""Training steps as a table: when each began, how long it took, and how much of that each part took."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kennel.insight.profile.reading import phases

_PARTS = [part for part in phases.STEP_PARTS if part != phases.OTHER]
_KEYS = ["node", "pid", "step"]
_MAD_TO_SIGMA = 1.4826  # of a normal distribution; Rousseeuw & Croux 1993


@dataclass(frozen=True)
class SlowStep:
    """A step that took much longer than the others, and what it was doing."""

    worker: str
    step: int
    start_s: float
    duration_s: float
    typical_s: float
    excess_s: dict[str, float]  # part -> seconds more than in a typical step, the largest first
    note: str  # what the machine was doing


def table(events: pd.DataFrame) -> pd.DataFrame:
    """One row a training step of a worker.

    Columns: worker, node, pid, step, epoch, images, gpu_memory_bytes, start_s, duration_s, and seconds of each part.

    A step lasts from its first event to its last. Parts that overlap are scaled down to its duration; what no part
    explains is `other`. The hook's time, which is inside forward and backward, is taken out of them.
    """
    own = events[
        (events["step"] >= 0) & (events["mode"].isin(["", "TRAIN"])) & events["part"].isin([*_PARTS, phases.STEP])
    ]
    whole = own[own["part"] == phases.STEP].groupby(_KEYS)[["epoch", "images", "gpu_memory_bytes"]].max()
    if whole.empty:
        return pd.DataFrame(columns=["worker", *_KEYS, *whole.columns, "start_s", "duration_s", *phases.STEP_PARTS])
    # A hook's event has its first call's time and the sum of all calls' durations, so it may seem to outlast the step.
    solid = own[own["part"] != phases.HOOK]
    spans = solid.assign(end_s=solid["start_s"] + solid["duration_s"]).groupby(_KEYS).agg(
        start_s=("start_s", "min"), end_s=("end_s", "max")
    )  # fmt: skip
    made = whole.join(spans)  # parts of a step that is itself missing say nothing of its length
    made["duration_s"] = made["end_s"] - made["start_s"]
    made = made.drop(columns="end_s").join(_parts(own, made["duration_s"])).reset_index()
    made.insert(0, "worker", _workers(made))
    return made.sort_values("start_s", kind="stable", ignore_index=True)


def _parts(own: pd.DataFrame, duration_s: pd.Series[float]) -> pd.DataFrame:
    parts = own[own["part"] != phases.STEP].pivot_table(
        index=_KEYS, columns="part", values="duration_s", aggfunc="sum", fill_value=0.0
    )
    parts = parts.reindex(index=duration_s.index, columns=_PARTS, fill_value=0.0).fillna(0.0)
    hooks = own[own["part"] == phases.HOOK].groupby(_KEYS)[["forward_us", "backward_us"]].sum().clip(lower=0)
    hooks = hooks.reindex(parts.index, fill_value=0)
    parts[phases.FORWARD] = (parts[phases.FORWARD] - hooks["forward_us"] / 1e6).clip(lower=0.0)
    parts[phases.BACKWARD] = (parts[phases.BACKWARD] - hooks["backward_us"] / 1e6).clip(lower=0.0)
    scale = (duration_s / parts.sum(axis=1)).clip(upper=1.0).fillna(1.0)
    parts = parts.mul(scale, axis=0)
    parts[phases.OTHER] = (duration_s - parts.sum(axis=1)).clip(lower=0.0)
    return parts


def _workers(steps: pd.DataFrame) -> list[str]:
    """The node's name, with the number of the process where a node has several."""
    processes = {node: sorted(group.unique()) for node, group in steps.groupby("node")["pid"]}
    return [
        f"{node} process {processes[node].index(pid)}" if len(processes[node]) > 1 else str(node)
        for node, pid in zip(steps["node"], steps["pid"], strict=True)
    ]


def missing_numbers(steps: pd.DataFrame) -> list[str]:
    """A sentence for each worker whose step numbers have holes."""
    said: list[str] = []
    for worker, own in steps.groupby("worker"):
        first, last = int(own["step"].min()), int(own["step"].max())
        lost = last - first + 1 - own["step"].nunique()
        if lost:
            said.append(f"{lost} of the steps {first} to {last} of {worker} are missing from the timeline.")
    return said


def steady(steps: pd.DataFrame) -> pd.DataFrame:
    """The steps without each worker's first, which allocates, compiles and waits for the loader's start."""
    if len(steps) <= steps["worker"].nunique():
        return steps
    return steps[steps.groupby("worker").cumcount() > 0]


def typical(steps: pd.DataFrame) -> dict[str, float]:
    """Mean seconds of each part in a step, without the first ones: what the run's time is made of."""
    chosen = steady(steps)
    return {part: float(chosen[part].mean()) for part in phases.STEP_PARTS} if len(chosen) else {}


def slow(steps: pd.DataFrame, samples: pd.DataFrame, *, limit: int = 10, factor: float = 3.0) -> list[SlowStep]:
    """The slowest steps beyond the median and `factor` robust standard deviations (median absolute deviation)."""
    found: list[SlowStep] = []
    for worker, own in steps.groupby("worker"):
        median = own[["duration_s", *phases.STEP_PARTS]].median()
        spread = _MAD_TO_SIGMA * float((own["duration_s"] - median["duration_s"]).abs().median())
        border = median["duration_s"] + max(factor * spread, 0.25 * median["duration_s"])
        for row in own[own["duration_s"] > border].nlargest(limit, "duration_s").to_dict("records"):
            excess = {part: row[part] - median[part] for part in phases.STEP_PARTS}
            ordered = dict(sorted(excess.items(), key=lambda item: -item[1]))
            note = _doing(samples, row["node"], row["start_s"], row["start_s"] + row["duration_s"])
            found.append(
                SlowStep(str(worker), int(row["step"]), float(row["start_s"]), float(row["duration_s"]),
                         float(median["duration_s"]), {p: s for p, s in ordered.items() if s > 0}, note)
            )  # fmt: skip
    return sorted(found, key=lambda one: -one.duration_s)[:limit]


def _doing(samples: pd.DataFrame, node: str, begin_s: float, end_s: float) -> str:
    """What was high on the node meanwhile, compared with the whole run."""
    own = samples[samples["node"] == node]
    during = own[own["time_s"].between(begin_s, end_s + 0.5)]
    if during.empty:
        return ""
    now, usual = during.groupby("metric")["value"].mean(), own.groupby("metric")["value"].mean()
    notes = []
    for metric, text in (("I/OWaitPercentage", "I/O wait"), ("CPUUtilization", "CPU"), ("GPUUtilization", "GPU")):
        if metric in now and abs(now[metric] - usual[metric]) >= 15:
            notes.append(f"{text} {now[metric]:.0f} % (else {usual[metric]:.0f} %)")
    return ", ".join(notes)
