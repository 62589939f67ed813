"""The tensors of a run, read with smdebug's own trial where that is safe.

smdebug's `create_trial` waits for ever on a folder without a collections file, retries a missing event file for
minutes, and gives up the whole trial at one cut-off index file. Here a folder is opened only when it can be, a file
that cannot be read is passed over and noted, and nothing waits.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kennel.insight.errors import InsightError

Array = np.ndarray[Any, Any]
os.environ.setdefault("SMDEBUG_LOG_LEVEL", "error")  # it prints to stdout, where results go; read at import
_INDEX_NAME = re.compile(r"\d+_.+\.(json|csv)")
_WELL_KNOWN = {  # smdebug's regular expressions of PyTorch, for trials whose collections file lacks them
    "weights": ["^(?!gradient).*weight"],
    "biases": ["^(?!gradient).*bias"],
    "gradients": ["^gradient"],
    "losses": ["[Ll]oss_(?!input).*output"],
}
_OWN = re.compile(r"^(activity|variance|sample|input_image)/")  # what Kennel's hook adds; in no collection of smdebug's


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
        self.notes: list[str] = []  # what could not be read
        self.steps: list[Step] = []
        self.smdebug = _open(folder, self.notes)
        self._cache: dict[tuple[str, str], Any] = {}
        self._cached_step = -1

    def refresh(self, *, final: bool = False) -> list[Step]:
        """Look for new steps and return them in their order.

        Args:
            final: no more will be written, so that what is incomplete counts as it is.
        """
        try:
            self.smdebug.refresh_data()
        except OSError as error:  # a file that went away between two looks
            self.notes.append(f"{self.folder}: {error}")
        if final:
            self.smdebug.loaded_all_steps = True
        known = {step.number for step in self.steps}
        numbers = self.smdebug.steps(show_incomplete_steps=True)
        written = self._written() if len(numbers) > len(known) else {}
        new = [self._step(n, written) for n in numbers if n not in known and (final or n in written)]
        self.steps += new
        return new

    def _written(self) -> dict[int, float]:
        """When each step's index was written, of the steps whose event file is there."""
        with_events = {int(path.name) for path in (self.folder / "events").glob("*/") if path.name.isdigit()}
        found: dict[int, float] = {}
        for path in (self.folder / "index").glob("*/*.json"):
            number = path.name.partition("_")[0]
            if number.isdigit() and int(number) in with_events:
                found[int(number)] = path.stat().st_mtime
        return found

    def _step(self, number: int, written: dict[int, float]) -> Step:
        mode, mode_step = self.smdebug.mode_modestep(number)
        return Step(number, mode.name, int(mode_step), written.get(number, 0.0))

    def names(self, step: Step, *, collections: Iterable[str] = (), regexes: Iterable[str] = ()) -> list[str]:
        """The tensors of a step that are in one of the collections or match one of the regular expressions; all of
        them, but those that Kennel's hook adds, where none is given.
        """
        patterns = [*regexes, *(pattern for name in collections for pattern in self._patterns(name))]
        saved: Sequence[str] = self.smdebug.tensor_names(step=step.number)
        if not patterns:
            return [name for name in saved if not _OWN.match(name)]
        return [name for name in saved if any(re.search(pattern, name) for pattern in patterns)]

    def _patterns(self, collection: str) -> list[str]:
        known = self.smdebug.collections().get(collection)
        own = [*known.include_regex, *(f"^{re.escape(name)}$" for name in known.tensor_names)] if known else []
        return own or _WELL_KNOWN.get(collection, [rf"^{re.escape(collection)}(/|$)"])

    def value(self, name: str, step: Step) -> Array | None:
        """The whole tensor; None where only reductions were saved or it cannot be read."""
        found: Array | None = self._read(name, step, "", lambda tensor: np.asarray(tensor.value(step.number)))
        return found

    def reduction(self, name: str, step: Step, reduction: str, *, absolute: bool = False) -> float | None:
        """A reduction (mean, min, max, std, variance, l1, l2), saved or of the whole tensor; None: neither is there."""
        kind = f"{'abs_' if absolute else ''}{reduction}"
        found: float | None = self._read(
            name, step, kind, lambda tensor: float(tensor.reduction_value(step.number, reduction, abs=absolute))
        )
        return found

    def _read(self, name: str, step: Step, kind: str, read: Any) -> Any:
        from smdebug.exceptions import TensorUnavailableForStep

        if step.number != self._cached_step:
            self._cache, self._cached_step = {}, step.number
        key = (name, kind)
        if key not in self._cache:
            try:
                self._cache[key] = read(self.smdebug.tensor(name))
            except TensorUnavailableForStep:
                self._cache[key] = None
            except Exception as error:  # smdebug raises anything at a cut-off record, a NameError among others
                self._cache[key] = None
                self.notes.append(f"{name} of step {step.number} cannot be read: {type(error).__name__}: {error}")
        return self._cache[key]

    def spread(self, name: str, step: Step) -> float | None:
        """Variance of a tensor: of all its values, by saved reductions, or by the sample that Kennel's hook takes."""
        saved = set(self.smdebug.tensor_names(step=step.number))
        for own in (name, f"variance/{name}", f"sample/{name}"):
            value = self.value(own, step) if own in saved else None
            if value is not None:
                return float(value) if own.startswith("variance/") else float(np.var(value))
        variance = self.reduction(name, step, "variance")
        if variance is not None:
            return variance
        deviation = self.reduction(name, step, "std")
        return None if deviation is None else deviation**2


def _open(folder: Path, notes: list[str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # distutils and the like, which are smdebug's to leave
        from smdebug.core.index_reader import LocalIndexReader
        from smdebug.exceptions import IndexReaderException
        from smdebug.trials.local_trial import LocalTrial

    class Reader(LocalIndexReader):  # type: ignore[misc]  # smdebug has no types
        def list_index_files(self) -> list[str]:
            return [path for path in super().list_index_files() if _INDEX_NAME.fullmatch(Path(path).name)]

        def _update_tensors_from_json(self, tensors: Any, step: Any, response: bytes, path: str, worker: str) -> Any:
            try:
                return super()._update_tensors_from_json(tensors, step, response, path, worker)
            except (IndexReaderException, KeyError, TypeError, AttributeError) as error:
                notes.append(f"The index of step {step} cannot be read ({error}); the step is left out.")
                return tensors

    class Tolerant(LocalTrial):  # type: ignore[misc]
        def _load_collections(self) -> None:
            self.index_reader = Reader(self.path)
            self.index_reader.event_file_retry_limit = 0
            super()._load_collections()

    _require_collections(folder)
    trial = Tolerant(folder.name, str(folder))
    trial.dynamic_refresh = False  # otherwise every question reads the folder anew
    trial._training_end_delay_refresh = 0
    return trial


def _require_collections(folder: Path) -> None:
    """What smdebug would wait for.

    Raises:
        InsightError: it is not there.
    """
    files = sorted((folder / "collections").glob("*/*_collections.json"))
    if not files:
        raise InsightError(f"{folder} has no collections file yet, so no tensors were saved there.")
    for file in files:
        try:
            workers = json.loads(file.read_text(encoding="utf-8"))["_meta"]["num_workers"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InsightError(f"{file} cannot be read ({error!r}). Run the job again, or fetch it again.") from error
        if len(files) < int(workers):
            raise InsightError(f"{folder} has collections of {len(files)} workers of {workers}.")
