"""The tensors of a run as rules ask for them: steps in their order, values, reductions, what could not be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kennel.insight.tensors.events import Array
from kennel.insight.tensors.reader import TensorReader

_WELL_KNOWN = {  # smdebug's regular expressions of PyTorch, for trials whose collections file lacks them
    "weights": ["^(?!gradient).*weight"],
    "biases": ["^(?!gradient).*bias"],
    "gradients": ["^gradient"],
    "losses": ["[Ll]oss_(?!input).*output"],
}
_OWN = re.compile(r"^(activity|variance|sample|input_image)/")  # what Kennel's hook adds; in no collection of smdebug's
_REDUCTIONS: dict[str, Callable[[Array], Any]] = {
    "min": np.min,
    "max": np.max,
    "mean": np.mean,
    "std": np.std,
    "variance": np.var,
    "sum": np.sum,
    "prod": np.prod,
    "l1": lambda values: np.linalg.norm(values.ravel(), ord=1),  # of all values, as smdebug's hook takes them
    "l2": lambda values: np.linalg.norm(values.ravel(), ord=2),
}


@dataclass(frozen=True)
class Step:
    """A step at which something was saved."""

    number: int  # over all modes
    mode: str  # TRAIN, EVAL, PREDICT or GLOBAL
    mode_step: int
    written_s: float  # when, in seconds since 1970


class Trial:
    """One folder of tensors."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Open a folder that has a collections file; `scratch` is for what a rule has to fetch.

        Raises:
            InsightError: it has none, or one that cannot be read.
        """
        self.folder, self.scratch = folder, scratch
        self.steps: list[Step] = []
        self.ended = False  # no more will be written
        self._reader = TensorReader(folder)
        self._cache: dict[tuple[str, str], Any] = {}
        self._cached_step = -1

    @property
    def notes(self) -> list[str]:
        """What could not be read."""
        return self._reader.notes

    def refresh(self, *, final: bool = False) -> list[Step]:
        """Look for new steps and return them in their order.

        Args:
            final: no more will be written, so that what is incomplete counts as it is.
        """
        self._reader.refresh()
        self.ended = self.ended or final
        known = {step.number for step in self.steps}
        new = [self._step(number) for number in self._reader.ready(final=self.ended) if number not in known]
        self.steps += new
        return new

    def _step(self, number: int) -> Step:
        saved = self._reader.steps[number]
        return Step(number, saved.first.mode, saved.first.mode_step, saved.written_s)

    def index_files(self) -> list[Path]:
        """Those of the steps, sorted; none of them is damaged."""
        saved = (self._reader.steps[step.number] for step in self.steps)
        return sorted(index.file for one in saved for index in one.by_worker.values())

    def saved(self, step: Step) -> list[str]:
        """All tensors of a step, sorted; of some there may be reductions only."""
        return self._reader.steps[step.number].names()

    def names(self, step: Step, *, collections: Iterable[str] = (), regexes: Iterable[str] = ()) -> list[str]:
        """The tensors of a step that are in one of the collections or match one of the regular expressions; all of
        them, but those that Kennel's hook adds, where none is given.
        """
        names: set[str] = set()
        patterns = list(regexes)
        for collection in collections:
            known = self._reader.collections.get(collection)
            own = [*known.regexes] if known else []
            names |= known.names if known else set()
            if not (known and (known.names or own)):
                own = _WELL_KNOWN.get(collection, [rf"^{re.escape(collection)}(/|$)"])
            patterns += own
        if not patterns and not names:
            return [name for name in self.saved(step) if not _OWN.match(name)]
        return [
            name for name in self.saved(step) if name in names or any(re.search(pattern, name) for pattern in patterns)
        ]

    def value(self, name: str, step: Step) -> Array | None:
        """The whole tensor; None where only reductions or strings were saved, or it cannot be read."""
        found: Array | None = self._once(name, step, "", lambda: self._reader.array(name, step.number))
        return found

    def reduction(self, name: str, step: Step, reduction: str, *, absolute: bool = False) -> float | None:
        """A reduction (mean, min, max, std, variance, sum, prod, l1, l2), saved or of the whole tensor.

        None where neither is there. l1 and l2 are norms of all values, whatever the tensor's shape.
        """
        kind = f"{'abs_' if absolute else ''}{reduction}"
        found: float | None = self._once(name, step, kind, lambda: self._reduced(name, step, reduction, kind))
        return found

    def _once(self, name: str, step: Step, kind: str, read: Callable[[], Any]) -> Any:
        """Rules ask for the same tensors of a step one after the other."""
        if step.number != self._cached_step:
            self._cache, self._cached_step = {}, step.number
        if (name, kind) not in self._cache:
            self._cache[name, kind] = read()
        return self._cache[name, kind]

    def _reduced(self, name: str, step: Step, reduction: str, kind: str) -> float | None:
        saved = self._reader.array(name, step.number, kind)
        whole = self.value(name, step) if saved is None else None
        try:
            if saved is not None:
                return float(saved.item())
            if whole is None or not whole.size:
                return None
            return _reduce(whole, reduction, absolute=kind.startswith("abs_"))
        except (TypeError, ValueError) as error:  # a reduction of several values, complex numbers
            self._reader.note(name, step.number, error)
            return None

    def spread(self, name: str, step: Step) -> float | None:
        """Variance of a tensor: of all its values, by saved reductions, or by the sample that Kennel's hook takes."""
        saved = set(self.saved(step))
        for own in (name, f"variance/{name}", f"sample/{name}"):
            value = self.value(own, step) if own in saved else None
            if value is not None:
                return float(value) if own.startswith("variance/") else _reduce(value, "variance")
        variance = self.reduction(name, step, "variance")
        if variance is not None:
            return variance
        deviation = self.reduction(name, step, "std")
        return None if deviation is None else deviation**2


def _reduce(values: Array, reduction: str, *, absolute: bool = False) -> float:
    """A reduction of values that may be infinite or NaN, which is for rules to judge and no cause to warn.

    Raises:
        TypeError: of complex numbers.
    """
    with np.errstate(all="ignore"):
        return float(_REDUCTIONS[reduction](np.absolute(values) if absolute else values))
