"""A timeline's events as parts of a run: Kennel's phases (docs/profiler.md), and smdebug's own."""

from __future__ import annotations

import re

import pandas as pd

DATA, COPY, FORWARD, BACKWARD, OPTIMIZER = "waiting for data", "copy to device", "forward", "backward", "optimizer"
SYNCHRONIZE, HOOK, OTHER = "synchronise", "debugger hook", "other"
STEP_PARTS = (DATA, COPY, FORWARD, BACKWARD, OPTIMIZER, SYNCHRONIZE, HOOK, OTHER)
STEP, EVAL_STEP, WORKER, WORKER_START = "step", "validation step", "loader worker", "loader start"
VALIDATION, CHECKPOINT, INITIALIZATION, FINALIZATION = "validation", "checkpoint", "initialisation", "finalisation"
ON_GPU = "on the GPU"  # the parts of a step once more, by the GPU's clock

_PHASES = {
    "Step:ModeKeys.TRAIN": STEP,
    "Step:ModeKeys.EVAL": EVAL_STEP,
    "DataLoaderIter": DATA,
    "HostToDevice": COPY,
    "Forward": FORWARD,
    "Backward(post-forward)": BACKWARD,
    "Optimizer": OPTIMIZER,
    "Synchronize": SYNCHRONIZE,
    "Debugger": HOOK,
    "GPU": ON_GPU,
    "DataLoaderWorker": WORKER,
    "DataLoaderIterInitialize": WORKER_START,
    "Validation": VALIDATION,
    "Checkpoint": CHECKPOINT,
    "Initialization": INITIALIZATION,
    "Finalization": FINALIZATION,
}
# smdebug's own hook names events after modules and methods; the first pattern that fits decides.
_NAMES = (
    (re.compile(r"^Step:ModeKeys\.(EVAL|PREDICT)"), EVAL_STEP),
    (re.compile(r"^Step:"), STEP),
    (re.compile(r"DataLoaderWorker"), WORKER),
    (re.compile(r"__init__|Initialize"), WORKER_START),
    (re.compile(r"DataLoaderIter|GetNext"), DATA),
    (re.compile(r"^Forward"), FORWARD),
    (re.compile(r"^Backward"), BACKWARD),
)


def part_of(phase: str, name: str = "") -> str:
    """The part of a step, or of the run, that an event stands for; empty for one that is none of them."""
    if phase in _PHASES:
        return _PHASES[phase]
    return next((part for text in (name, phase) for pattern, part in _NAMES if pattern.search(text)), "")


def with_parts(events: pd.DataFrame) -> pd.DataFrame:
    """The events with a column `part`; a timeline has few different names, so each is looked at once."""
    pairs = events[["phase", "name"]].drop_duplicates()
    known = {(phase, name): part_of(phase, name) for phase, name in pairs.itertuples(index=False)}
    return events.assign(part=[known[pair] for pair in zip(events["phase"], events["name"], strict=True)])
