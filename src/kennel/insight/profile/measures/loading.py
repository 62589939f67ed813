"""What loading the data costs a step, and what more loader processes would make of it.

The model: `workers` processes each need `load_s` for a batch, so a batch is ready every `load_s / workers`; the rest of
a step takes `compute_s` and goes on meanwhile. A step then takes the longer of the two, and without loader processes
their sum: the steady state of a pipeline of two stages. No step takes less than the CPU time that one costs, spread
over all cores (`cpu_s`): loaders on a CPU that is full take their time from the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from kennel.insight.profile.measures import steps as stepping
from kennel.insight.profile.measures import usage
from kennel.insight.profile.reading import phases, system
from kennel.insight.profile.reading.run import Run

_NO_WAIT_SHARE = 0.05  # less of a step than this is no wait worth a change
_DEFAULT_CORES = 4  # where nobody sampled them


@dataclass(frozen=True)
class Loading:
    """Seconds of a typical step, and how the data came."""

    step_s: float
    wait_s: float
    compute_s: float  # all but the wait
    load_s: float | None  # one worker, one batch; None: hidden behind the steps, so it cannot be told
    workers: int | None  # loader processes of each training process; None: not known
    processes: int  # training processes of the busiest node
    cores: int
    measured: bool  # load_s was timed in the workers, not concluded from the wait
    cpu_s: float = 0.0  # CPU time of a step, loading included, spread over the cores; 0: not known

    @property
    def wait_share(self) -> float:
        """Of a step, 0 to 1."""
        return self.wait_s / self.step_s if self.step_s > 0 else 0.0

    @property
    def limit(self) -> int:
        """More loader processes than this are more than twice the cores: AWS's Dataloader rule would fire."""
        return max(1, 2 * self.cores // self.processes)

    def predicted_s(self, workers: int) -> float:
        """A step with so many loader processes."""
        if self.load_s is None:
            return self.step_s
        if workers == 0:
            return self.load_s + self.compute_s
        return max(self.compute_s, self.load_s / workers, self.cpu_s)

    def best_workers(self) -> int:
        """The fewest loader processes that keep up with the steps, or as many as the cores bear."""
        if self.load_s is None:
            return self.workers or 0
        goal_s = max(self.compute_s, self.cpu_s, self.load_s / self.limit)
        return max(1, min(self.limit, math.ceil(self.load_s / goal_s))) if goal_s else 1


def measure(run: Run, steps: pd.DataFrame) -> Loading | None:
    """How the run's data came; None without steps."""
    chosen = stepping.steady(steps)
    if chosen.empty:
        return None
    step_s, wait_s = float(chosen["duration_s"].mean()), float(chosen[phases.DATA].mean())
    workers, own = _workers(run), run.events[run.events["part"] == phases.WORKER]
    batches = own[own["mode"].isin(["", "TRAIN"])]["duration_s"]
    load_s: float | None = None
    if len(batches):
        load_s = float(batches.mean())
    elif workers == 0:
        load_s = wait_s
    elif workers and wait_s > _NO_WAIT_SHARE * step_s:  # the loaders are what the steps' pace comes from
        load_s = workers * step_s
    processes = max((steps[steps["node"] == node]["pid"].nunique() for node in run.nodes), default=1)
    busy = usage.mean(run.samples, system.CONTAINER_CPU, float(chosen["start_s"].min()), float(chosen["start_s"].max()))
    return Loading(
        step_s, wait_s, max(step_s - wait_s, 0.0), load_s, workers, max(1, processes),
        max(run.cores.values(), default=_DEFAULT_CORES), measured=bool(len(batches)),
        cpu_s=step_s * min(100.0, busy) / 100 if busy is not None else 0.0,
    )  # fmt: skip


def _workers(run: Run) -> int | None:
    """Loader processes of a training process: as it told, else those that were seen, else the hyperparameter."""
    given = run.number("num_workers")
    if given is not None and given >= 0:
        return int(given)
    seen = run.events[run.events["part"] == phases.WORKER]["worker_id"]
    return int(seen[seen >= 0].nunique()) if len(seen) else None
