"""The life of one hyperparameter tuning job, in a thread of its own that sleeps until something happens.

Its trials are training jobs like all others. What was suggested is written to the tuning job's document before the
training job is, under a name that follows from its number: a kill between the two leads to the same trial again.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kennel.emulator.documents.names import TAGS, WARNINGS, resource_arn
from kennel.emulator.documents.training import KIND as TRAINING_KIND
from kennel.emulator.documents.training import begin_stopping, training_document
from kennel.emulator.errors import ValidationException
from kennel.emulator.state.home import Home
from kennel.emulator.state.shortages import passes, told
from kennel.emulator.state.store import Document, ExistsError, MissingError, Store
from kennel.emulator.training import shared as tuning_shared
from kennel.emulator.training.jobs import TrainingJobs
from kennel.emulator.training.warm_pool import SHARED
from kennel.emulator.tuning import status as tuning_status
from kennel.emulator.tuning.problem import Problem, Trial
from kennel.emulator.tuning.request import job_limit, resource_of
from kennel.emulator.tuning.searcher import Searcher, SearchError
from kennel.emulator.tuning.status import KIND, TRIALS, is_open, value_of
from kennel.emulator.tuning.trials import definitions_of, objective_of, space_of, training_request, trial_name

_STATUS = "HyperParameterTuningJobStatus"
_WARM_S = 600  # that a container or process waits for the next trial, from the beginning of the one before


@dataclass(frozen=True)
class TuningTools:
    """What all tuning jobs share."""

    store: Store
    home: Home
    jobs: TrainingJobs
    searcher: Searcher
    region: str
    own: Callable[[str, TuningJob], None]  # told whom a change of a training job wakes


class TuningJob:
    """One tuning job from its document to its last status."""

    def __init__(self, name: str, tools: TuningTools, leaving: threading.Event) -> None:
        self.name = name
        self._tools = tools
        self._leaving = leaving
        self._wake = threading.Event()
        self._series: dict[str, list[float]] = {}  # of trials that have ended

    def wake(self) -> None:
        """Look at the documents now: one of them has changed."""
        self._wake.set()

    def run(self) -> None:
        """Live until the job has ended, the server leaves or the job's document is gone."""
        with contextlib.suppress(MissingError):
            for trial in self._document()[TRIALS]:
                self._tools.own(trial["TrainingJobName"], self)
            while not self._round() and not self._leaving.is_set():
                self._wake.wait(self._patience_s())

    def has_ended(self) -> bool:
        """Whether nothing more will happen; so, too, when it was deleted."""
        try:
            return self._document()[_STATUS] in tuning_status.ENDED
        except MissingError:
            return True

    def _round(self) -> bool:
        """Do what can be done now; whether the job has ended."""
        self._wake.clear()  # first, so that a change that comes now is seen in the next round
        document = self._follow()
        if document[_STATUS] in tuning_status.ENDED:
            return True
        why = document.get("_why") or tuning_status.enough(document, time.time())
        if why is None:
            try:
                self._stop_early(document)
                why = self._launch(document)
            except SearchError as error:
                if self._leaving.is_set():  # the next server asks again
                    return False
                if passes(error):
                    raise
                self.fail(told(f"InternalServerError: {error}", error, self._tools.home.path))
                return True
        if why is None:
            return False
        return self._end(why)

    def _patience_s(self) -> float | None:
        document = self._document()
        limit_s = document["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxRuntimeInSeconds")
        if limit_s is None or document.get("_why"):
            return None
        return float(max(0.0, document["CreationTime"] + limit_s - time.time()))

    # ---- following the trials -------------------------------------------------------------------------------------

    def _follow(self) -> Document:
        """Take over what has become of the trials; begin one whose beginning was cut short by a kill."""
        document = self._document()
        jobs: dict[str, Document | None] = {}
        for trial in filter(is_open, document[TRIALS]):
            name = trial["TrainingJobName"]
            jobs[name] = self._training_job(name)
            if jobs[name] is None and not trial["_launched"]:
                jobs[name] = self._begin(document, trial)

        def change(document: Document) -> None:
            for trial in document[TRIALS]:
                if trial["TrainingJobName"] in jobs:
                    trial["_launched"] = True
                    tuning_status.follow(document, trial, jobs[trial["TrainingJobName"]])
            tuning_status.refresh(document, time.time())

        new = copy.deepcopy(document)
        change(new)
        return document if new == document else self._change(change)

    def _training_job(self, name: str) -> Document | None:
        try:
            return self._tools.store.get(TRAINING_KIND, name)
        except MissingError:
            return None

    # ---- beginning trials -----------------------------------------------------------------------------------------

    def _launch(self, document: Document) -> str | None:
        """Begin as many trials as may run; "done" when there is none to begin and none runs."""
        limits = document["HyperParameterTuningJobConfig"]["ResourceLimits"]
        while len(document[TRIALS]) < job_limit(document) and not self._leaving.is_set():
            if sum(map(is_open, document[TRIALS])) >= limits["MaxParallelTrainingJobs"]:
                return None
            index = self._next_definition(document)
            tuned = self._tools.searcher.suggest(self._problem(document, index))
            document = self._change(lambda d, index=index, tuned=tuned: self._note(d, index, tuned))  # type: ignore[misc]
            if document[_STATUS] != "InProgress":
                return "stop"
            self._begin(document, document[TRIALS][-1])
        return None if any(map(is_open, document[TRIALS])) else "done"

    def _next_definition(self, document: Document) -> int:
        """The definition with the fewest trials; of a grid, the first that has combinations left."""
        used = [trial["_definition"] for trial in document[TRIALS]]
        definitions = definitions_of(document)
        if document["HyperParameterTuningJobConfig"]["Strategy"] == "Grid":
            single = [job_limit({**document, "TrainingJobDefinition": one}) for one in definitions]
            return next(index for index, size in enumerate(single) if used.count(index) < size)
        return min(range(len(definitions)), key=used.count)

    def _note(self, document: Document, index: int, tuned: dict[str, str]) -> None:
        """Write down what is to be tried."""
        if document[_STATUS] != "InProgress":
            return
        name = trial_name(document, len(document[TRIALS]) + 1)
        trial = {
            "TrainingJobName": name,
            "TrainingJobArn": resource_arn(self._tools.region, TRAINING_KIND, name),
            "TuningJobName": self.name,
            "TrainingJobStatus": "InProgress",
            "ObjectiveStatus": "Pending",
            "TunedHyperParameters": tuned,
            "CreationTime": time.time(),
            "_definition": index,
            "_launched": False,
        }
        definition = definitions_of(document)[index]
        if "DefinitionName" in definition:
            trial["TrainingJobDefinitionName"] = definition["DefinitionName"]
        document[TRIALS].append(trial)
        tuning_status.refresh(document, time.time())

    def _begin(self, document: Document, trial: Document) -> Document:
        """Create and start a trial's training job."""
        name = trial["TrainingJobName"]
        definition = definitions_of(document)[trial["_definition"]]
        request = training_request(document, definition, name, trial["TunedHyperParameters"])
        job = training_document(request, trial["TrainingJobArn"], trial["CreationTime"])
        self._tools.home.shared_dir(self.name).mkdir(parents=True, exist_ok=True)
        job |= {
            "TuningJobArn": document["HyperParameterTuningJobArn"],
            TAGS: document.get(TAGS, {}),
            WARNINGS: [],
            SHARED: {"name": pool_of(self.name), "seconds": _WARM_S},
        }
        job |= tuning_shared.given_to_trials(self._tools.home, self.name)
        with contextlib.suppress(ExistsError):
            self._tools.store.insert(TRAINING_KIND, name, trial["CreationTime"], job)
        self._tools.own(name, self)
        self._tools.jobs.start(name)
        self._wake.set()  # so that it is noted as launched
        return job

    def _problem(self, document: Document, index: int) -> Problem:
        """The search of one definition, with the trials of the others left out."""
        config = document["HyperParameterTuningJobConfig"]
        definition = definitions_of(document)[index]
        hyperband = config["Strategy"] == "Hyperband"
        low, high = resource_of(document, definition) if hyperband else (1, 1)
        mine = [trial for trial in document[TRIALS] if trial["_definition"] == index]
        return Problem(
            strategy=config["Strategy"],
            space=space_of(document, definition),
            maximize=tuning_status.maximizes(document),
            seed=document["_seed"] + index,
            trials=tuple(_known(trial) for trial in [*document["_parents"], *mine]),
            engine=document["_engine"],
            transfer=(document.get("WarmStartConfig") or {}).get("WarmStartType") == "TransferLearning",
            min_resource=low,
            max_resource=high,
        )

    # ---- ending trials --------------------------------------------------------------------------------------------

    def _stop_early(self, document: Document) -> None:
        config = document["HyperParameterTuningJobConfig"]
        hyperband = config["Strategy"] == "Hyperband"
        if not hyperband and config.get("TrainingJobEarlyStoppingType") != "Auto":
            return
        for trial in filter(is_open, document[TRIALS]):
            if trial.get("_stopped_by"):  # again after a restart
                self._stop_trial(trial["TrainingJobName"])
                continue
            reason = self._hyperband(document, trial) if hyperband else self._median_rule(document, trial)
            if reason:
                self._mark(trial["TrainingJobName"], _stopped_by=reason)
                self._stop_trial(trial["TrainingJobName"])

    def _median_rule(self, document: Document, trial: Document) -> str | None:
        values = self._values(document, trial)
        if len(values) <= trial.get("_judged", 0):
            return None
        self._mark(trial["TrainingJobName"], _judged=len(values))
        previous = [
            self._ended_values(document, one)
            for one in document[TRIALS]
            if value_of(one) is not None and one["_definition"] == trial["_definition"]
        ]
        hopeless = tuning_status.is_hopeless(values, previous, maximize=tuning_status.maximizes(document))
        return "early-stopping" if hopeless else None

    def _hyperband(self, document: Document, trial: Document) -> str | None:
        values, judged = self._values(document, trial), trial.get("_judged", 0)
        if len(values) <= judged:
            return None
        index = trial["_definition"]
        problem = self._problem(self._document(), index)
        mine = [one["TrainingJobName"] for one in document[TRIALS] if one["_definition"] == index]
        number = len(document["_parents"]) + mine.index(trial["TrainingJobName"])
        new = [(step, values[step - 1]) for step in range(judged + 1, len(values) + 1)]
        last, rungs = self._tools.searcher.judge(problem, number, new)
        self._mark(trial["TrainingJobName"], _judged=len(values), _rungs=rungs)
        if last is None:
            return None
        return "max-resource" if last >= problem.max_resource else "hyperband"

    def _mark(self, name: str, **notes: object) -> None:
        def change(document: Document) -> None:
            for trial in document[TRIALS]:
                if trial["TrainingJobName"] == name:
                    trial.update(notes)

        self._change(change)

    def _stop_trial(self, name: str) -> None:
        with contextlib.suppress(ValidationException, MissingError):  # it has ended
            self._tools.store.update(TRAINING_KIND, name, lambda job: begin_stopping(job, time.time()))
            self._tools.jobs.stop(name)

    def _end(self, why: str) -> bool:
        """End what runs, then the job; whether it has ended."""
        document = self._change(lambda d: d.setdefault("_why", why))
        running = [trial["TrainingJobName"] for trial in document[TRIALS] if is_open(trial)]
        for name in running:
            self._stop_trial(name)
        if running:
            return False
        why = "stop" if document[_STATUS] == "Stopping" else document["_why"]
        self._change(lambda d: tuning_status.end(d, why, time.time()))
        return True

    def fail(self, reason: str) -> None:
        """End it as Failed, and its trials."""
        with contextlib.suppress(MissingError):
            document = self._change(lambda d: tuning_status.end(d, "fault", time.time(), reason))
            for trial in filter(is_open, document[TRIALS]):
                self._stop_trial(trial["TrainingJobName"])

    # ---- what the trials report -----------------------------------------------------------------------------------

    def _values(self, document: Document, trial: Document) -> list[float]:
        """The objective of a trial, one value an epoch."""
        metric = objective_of(document, definitions_of(document)[trial["_definition"]])["MetricName"]
        return _read_values(self._tools.home.metrics_file(trial["TrainingJobName"]), metric)

    def _ended_values(self, document: Document, trial: Document) -> list[float]:
        name = trial["TrainingJobName"]
        if name not in self._series:
            self._series[name] = self._values(document, trial)
        return self._series[name]

    # ---- the document ---------------------------------------------------------------------------------------------

    def _document(self) -> Document:
        return self._tools.store.get(KIND, self.name)

    def _change(self, change: Callable[[Document], object]) -> Document:
        def changed(document: Document) -> None:
            change(document)
            document["LastModifiedTime"] = time.time()

        return self._tools.store.update(KIND, self.name, changed)


def pool_of(name: str) -> str:
    """Where processes wait for a tuning job's trials; a dot is in no training job's name, which is a pool's, too."""
    return f"{name}.trials"


def _known(trial: Document) -> Trial:
    """A trial of this job or of a parent, as the search has it."""
    value = value_of(trial)
    state = "running" if is_open(trial) else "failed" if value is None else "complete"
    if trial.get("_stopped_by") == "hyperband" and value is not None:
        state = "pruned"
    return Trial(
        params=trial.get("_params") or trial["TunedHyperParameters"],
        state=state,
        value=value,
        step=trial.get("_judged", 0),
        rungs=trial.get("_rungs", {}),
        source=trial.get("_source", 0),
    )


def _read_values(file: Path, metric: str) -> list[float]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    points = [json.loads(line) for line in lines if line.endswith("\n")]  # a line that is being written is not there
    return [float(point["value"]) for point in points if point["name"] == metric]
