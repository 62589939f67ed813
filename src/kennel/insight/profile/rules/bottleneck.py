"""What CPUBottleneck and IOBottleneck share: a GPU that idles while something else is busy."""

from __future__ import annotations

from kennel.insight.profile.reading import system
from kennel.insight.profile.rules.base import ISSUES, QUIET, Evidence, Outcome, not_applicable, pivoted


def idle_while_busy(
    evidence: Evidence, metric: str, *, busy: float, gpu: float, threshold: float, patience: int
) -> Outcome:
    """Share of the samples after the first `patience` in which the GPU is below `gpu` and the metric above `busy`.

    Args:
        evidence: the run.
        metric: of the CPU.
        busy: percent above which it counts.
        gpu: percent of the GPU below which it counts.
        threshold: percent of samples above which the rule fires.
        patience: samples at a run's beginning that say nothing.
    """
    run = evidence.run
    if not run.gpus:
        return not_applicable("No GPU was sampled.")
    hits = low = datapoints = 0
    for node in run.gpus:
        table = pivoted(run, (system.GPU, metric), node)[patience:]
        idle = table[system.GPU] < gpu
        datapoints += len(table)
        low += int(idle.sum())
        hits += int((idle & (table[metric] > busy)).sum())
    if not datapoints:
        return not_applicable(f"The rule waits for more than {patience} samples.")
    share = 100.0 * hits / datapoints
    text = f"In {share:.0f} % of {datapoints} samples {metric} was above {busy:g} % while the GPU was below {gpu:g} %."
    details = {"bottlenecks": hits, "low_gpu_utilization": low, "share_percent": share}
    return Outcome(ISSUES if share > threshold else QUIET, hits if share > threshold else 0, datapoints, text, details)
