"""The rules of training jobs: each is a process of this machine that reads what the job uploads.

A thread a job looks after its rules. What it knows is in the job's document and in the rules' folders, so that the next
server takes it up: a rule's process goes on without a server, and is found again by its name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from kennel.emulator.documents import training as job_status
from kennel.emulator.documents.training import ENDED, KIND
from kennel.emulator.rules import results as rule_results
from kennel.emulator.rules.requests import PROFILER, STATUSES, RuleRequest, requests_of
from kennel.emulator.rules.results import DETAILS_CHARS, Result
from kennel.emulator.runners.base import RULE_LABEL, Exited, Launch, RunnerError, Running
from kennel.emulator.runners.process import ProcessRunner
from kennel.emulator.state.home import Home
from kennel.emulator.state.log_files import PROCESSING_LOGS, WARNING_LOGS
from kennel.emulator.state.log_lines import last_line
from kennel.emulator.state.shortages import passes, shortage_of, told
from kennel.emulator.state.store import Document, MissingError, Store
from kennel.emulator.threads.job_threads import JobThreads
from kennel.storage import FILE, StorageError, Uri, fetch, storage_of

_POLL_S = 0.5
_FINISH_S = 600.0  # for a rule to end after its job; a custom one may never
_HAS_BEGUN = ("Training", "Uploading", "Stopping", *ENDED)


class Rules:
    """Each job that has rules which are not through has a thread."""

    def __init__(
        self, store: Store, home: Home, processes: ProcessRunner, region: str, stop: Callable[[str], None]
    ) -> None:
        """Statuses are members of the job's document; `stop` is told of a job that a rule's action has stopped."""
        self._threads = JobThreads("rules of training job", lambda name, leaving: _Watch(name, self, leaving))
        self._store, self._patient = store, store.patient(self._threads.leaving)
        self._home, self._processes, self._region, self._stop = home, processes, region, stop

    def start(self, name: str) -> None:
        """Look after the rules of a job, if it has any. Returns at once; may be repeated."""
        try:
            if not unfinished(self._store.get(KIND, name)):
                return
            self._store.update(KIND, name, lambda document: begin(document, self._region))
        except MissingError:  # it was deleted meanwhile
            return
        except OSError as error:
            if not shortage_of(error):
                raise
        self._threads.start(name)  # which begins them, too: whoever created the job does not wait for a full disk

    def begin(self, name: str) -> None:
        """Give every rule of a job a status.

        Raises:
            MissingError: the job was deleted.
        """
        document = self._patient.get(KIND, name)
        if any(len(document.get(STATUSES[rule.kind], [])) <= rule.index for rule in unfinished(document)):
            self._patient.update(KIND, name, lambda document: begin(document, self._region))

    def fail(self, name: str, reason: str) -> None:
        """End all rules of a job that are not through."""
        with contextlib.suppress(MissingError):
            for rule in unfinished(self._patient.get(KIND, name)):
                _Life(rule, self._patient, self._home, self._processes).fail(reason)

    def look(self, name: str) -> bool:
        """Do what is to be done now about the rules of a job; whether they are through.

        Raises:
            MissingError: the job was deleted.
        """
        document = self._patient.get(KIND, name)
        open_rules = unfinished(document)
        for rule in open_rules:
            life = _Life(rule, self._patient, self._home, self._processes)
            if life.step() and rule.stops_training and document["TrainingJobStatus"] == "InProgress":
                self._stop_job(name, rule)
        return not open_rules

    def _stop_job(self, name: str, rule: RuleRequest) -> None:
        """The action StopTraining: as StopTrainingJob, by the rule's name."""

        def change(document: Document) -> None:
            if document["TrainingJobStatus"] == "InProgress":
                document["TrainingJobStatus"] = "Stopping"
                document["_stopped_by_rule"] = rule.name
                job_status.move(document, "Stopping", time.time())

        self._patient.update(KIND, name, change)
        self._stop(name)

    def delete(self, name: str) -> None:
        """End the rules of a job that is deleted."""
        with contextlib.suppress(RunnerError):
            for handle in self._processes.find(RULE_LABEL, name):
                self._processes.remove(handle)
        shutil.rmtree(self._home.job_dir(name) / "rules", ignore_errors=True)

    def recover(self, names: Collection[str]) -> None:
        """Take up the rules of all jobs that there are, and end those of others."""
        for handle, name in self._processes.find(RULE_LABEL).items():
            if name not in names:
                self._processes.remove(handle)
        for name in names:
            self.start(name)

    def close(self, timeout_s: float = 5) -> None:
        """Leave all rules running; the next server finds them again."""
        self._threads.close(timeout_s)


class _Watch:
    """What a thread does about the rules of one job."""

    def __init__(self, name: str, rules: Rules, leaving: threading.Event) -> None:
        self.name, self._rules, self._leaving = name, rules, leaving
        self._wake = threading.Event()

    def wake(self) -> None:
        self._wake.set()

    def run(self) -> None:
        try:
            self._rules.begin(self.name)
            while not self._leaving.is_set() and not self._rules.look(self.name):
                self._wake.wait(_POLL_S)
        except MissingError:
            self._rules.delete(self.name)

    def fail(self, reason: str) -> None:
        self._rules.fail(self.name, reason)


def begin(document: Document, region: str) -> None:
    """Give every rule of a job a status; those that have one keep it."""
    account = document["TrainingJobArn"].split(":")[4]
    for rule in requests_of(document):
        statuses = document.setdefault(STATUSES[rule.kind], [])
        if len(statuses) <= rule.index:
            arn = f"arn:aws:sagemaker:{region}:{account}:processing-job/{rule.job_name}"
            statuses.append(
                {
                    "RuleConfigurationName": rule.name,
                    "RuleEvaluationJobArn": arn,
                    "RuleEvaluationStatus": "InProgress",
                    "LastModifiedTime": time.time(),
                }
            )


def unfinished(document: Document) -> list[RuleRequest]:
    """The rules that somebody has to look after."""
    done = document.get("_rules_done", [])
    return [rule for rule in requests_of(document) if rule.slug not in done]


class _Life:
    """One look at one rule."""

    def __init__(self, rule: RuleRequest, store: Store, home: Home, processes: ProcessRunner) -> None:
        self._rule, self._store, self._home, self._processes = rule, store, home, processes
        self._document = rule.document
        self._job = rule.document["TrainingJobName"]
        self._folder = home.job_dir(self._job) / "rules" / rule.slug

    @property
    def _has_ended(self) -> bool:
        return self._document["TrainingJobStatus"] in ENDED

    @property
    def _was_stopped(self) -> bool:
        return self._document["TrainingJobStatus"] in ("Stopping", "Stopped")

    def step(self) -> bool:
        """Do what is to be done now; whether the rule has fired."""
        try:
            return self._step()
        except (RunnerError, StorageError, OSError) as error:
            if passes(error):
                raise
            self.fail(told(f"InternalServerError: {error}", error, self._folder))
            return False

    def fail(self, reason: str) -> None:
        """The rule gives no result."""
        self._end(Result("Error", reason))

    def _step(self) -> bool:
        handle = self._handle()
        if handle is None:
            if self._rule.problem:
                self._end(Result("Error", f"ClientError: {self._rule.problem}"))
            elif self._is_due():
                self._launch()
            return False
        state = self._processes.state(handle)
        result = rule_results.read(self._rule, self._folder)
        if isinstance(state, Running):
            if self._has_ended:
                self._hurry(handle)
            return self._show(result)
        if not isinstance(state, Exited) or state.code or result is None or result.status == "InProgress":
            said = last_line(self._log_file()) or "the program ended without a result"
            result = Result("Error", f"AlgorithmError: {said}")
        self._upload()
        self._end(result)
        self._processes.remove(handle)
        return result.status == "IssuesFound"

    def _hurry(self, handle: str) -> None:
        """Tell the program that no more will come; end it where it does not end by itself."""
        ended = self._folder / "ended"
        if not ended.exists():
            ended.touch()
        elif time.time() - ended.stat().st_mtime > _FINISH_S:
            self._processes.kill(handle)

    def _handle(self) -> str | None:
        return next((h for h in self._processes.find(RULE_LABEL, self._job) if Path(h).name == self._run_name), None)

    @property
    def _run_name(self) -> str:
        return f"rule.{self._job}.{self._rule.slug}"

    def _is_due(self) -> bool:
        """A debugger rule reads along; a profiler rule reads the whole."""
        return self._has_ended or (self._rule.kind != PROFILER and self._document["SecondaryStatus"] in _HAS_BEGUN)

    def _log_file(self) -> Path:
        started = int(self._document["CreationTime"])
        return self._home.logs.file(PROCESSING_LOGS, f"{self._rule.job_name}/algo-1-{started}")

    def _launch(self) -> None:
        (self._folder / "output").mkdir(parents=True, exist_ok=True)
        parameters = json.dumps(self._rule.parameters)
        (self._folder / "parameters.json").write_text(parameters, encoding="utf-8")
        log_file = self._log_file()
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.touch()
        unheard = self._rule.unheard_actions
        if unheard:
            said = f"Rule {self._rule.name}: no {', '.join(unheard)} is sent from here; look at the rule's status."
            self._home.logs.note(WARNING_LOGS, f"training-job/{self._job}", [said])
        self._processes.start(
            Launch(
                name=self._run_name,
                image="",
                log_file=log_file,
                base_dir=self._folder,
                entrypoint=self._rule.command(self._readable(), self._folder),
                arguments=(),
                environ={name: value for name, value in os.environ.items() if name.startswith("AWS_")},
                labels={RULE_LABEL: self._job},
            )
        )

    def _readable(self) -> str:
        """What the program is told to read: it fetches tensors itself, while they come; a profile is fetched here."""
        source = self._rule.source
        if source is None:
            raise StorageError(self._rule.problem)
        if self._rule.kind != PROFILER or source.scheme == FILE:
            return str(source.file) if source.scheme == FILE else str(source)
        for item in storage_of(source).list(source):
            fetch(item, self._folder / "profile")
        return str(self._folder / "profile")

    def _upload(self) -> None:
        """The rule's output in AWS's layout."""
        output = self._folder / "output"
        for path in sorted(path for path in output.rglob("*") if path.is_file()):
            uri: Uri = self._rule.output.join(*path.relative_to(output).parts)
            storage_of(uri).put(path, uri)

    def _show(self, result: Result | None) -> bool:
        """Bring the status up to date; whether the rule has fired."""
        stopping = self._was_stopped and self._document.get("_stopped_by_rule") is None
        fallback = Result("Stopping") if stopping else Result("InProgress")
        early = result and result.status in ("IssuesFound", "Error") and self._rule.kind != PROFILER
        shown = result if early and result else fallback
        if shown.status == "IssuesFound" and self._shown != "IssuesFound":
            try:
                self._upload()  # first: whoever sees the status looks for what was found
            except (StorageError, OSError):
                return False  # the next look tries again
        self._set(shown)
        return shown.status == "IssuesFound"

    @property
    def _shown(self) -> str:
        row = self._document[STATUSES[self._rule.kind]][self._rule.index]
        return str(row["RuleEvaluationStatus"])

    def _end(self, result: Result) -> None:
        if self._was_stopped and result.status == "NoIssuesFound":
            result = Result("Stopped", result.details)
        self._set(result)
        self._store.update(KIND, self._job, lambda d: d.setdefault("_rules_done", []).append(self._rule.slug))

    def _set(self, result: Result) -> None:
        details = " ".join(result.details.split())[:DETAILS_CHARS]

        def change(document: Document) -> None:
            row = document[STATUSES[self._rule.kind]][self._rule.index]
            if (row["RuleEvaluationStatus"], row.get("StatusDetails", "")) == (result.status, details):
                return
            row.update(RuleEvaluationStatus=result.status, LastModifiedTime=time.time())
            if details:
                row["StatusDetails"] = details

        self._store.update(KIND, self._job, change)
