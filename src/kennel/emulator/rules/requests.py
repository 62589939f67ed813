"""DebugRuleConfigurations and ProfilerRuleConfigurations: what each of them starts.

Sources: API reference, DebugRuleConfiguration and ProfilerRuleConfiguration; developer guide, "Use the SageMaker
Debugger API Operations"; sagemaker-python-sdk, debugger.py, for `rule_to_invoke`, `source_s3_uri` and `action_json`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.contract.programs import INSIGHT
from kennel.storage import Uri

DEBUG, PROFILER = "Debug", "Profiler"
STATUSES = {DEBUG: "DebugRuleEvaluationStatuses", PROFILER: "ProfilerRuleEvaluationStatuses"}
_REQUESTED = {DEBUG: "DebugRuleConfigurations", PROFILER: "ProfilerRuleConfigurations"}
_TENSORS = {DEBUG: ("DebugHookConfig", "debug-output"), PROFILER: ("ProfilerConfig", "profiler-output")}
_EVALUATORS = re.compile(r"sagemaker-debugger-rule|kennel")  # AWS's images of both kinds, by their repositories' names
_NAME_CHARS = 26  # of job and rule in the name of a processing job, which has 63 at most


@dataclass(frozen=True)
class RuleRequest:
    """One configuration of one job."""

    kind: str  # DEBUG or PROFILER
    index: int  # in its list
    config: Mapping[str, Any]
    document: Mapping[str, Any]  # the training job

    @property
    def name(self) -> str:
        """RuleConfigurationName."""
        return str(self.config["RuleConfigurationName"])

    @property
    def slug(self) -> str:
        """A name for files: rule names may have any characters."""
        return f"{self.kind.lower()}-{self.index}"

    @property
    def job_name(self) -> str:
        """The name that the processing job would have on AWS."""
        plain = re.sub(r"[^a-zA-Z0-9]+", "-", self.name).strip("-") or "rule"
        job = self.document["TrainingJobName"]
        digest = hashlib.sha256(f"{self.document['TrainingJobArn']} {self.slug} {self.name}".encode()).hexdigest()[:8]
        return f"{job[:_NAME_CHARS].rstrip('-')}-{plain[:_NAME_CHARS].rstrip('-')}-{digest}"

    @property
    def parameters(self) -> dict[str, str]:
        """RuleParameters; the SDK numbers the other trials, of which a rule here has one."""
        given = dict(self.config.get("RuleParameters") or {})
        if "other_trial_0" in given:
            given["other_trial"] = given.pop("other_trial_0")
        return given

    @property
    def rule(self) -> str:
        """What is to be invoked."""
        return self.parameters.get("rule_to_invoke") or self.name

    @property
    def source(self) -> Uri | None:
        """Where the job's tensors or profile are uploaded to; None: the request has no place for them."""
        member, below = _TENSORS[self.kind]
        place = (self.document.get(member) or {}).get("S3OutputPath")
        return Uri.parse(place).join(self.document["TrainingJobName"], below) if place else None

    @property
    def output(self) -> Uri:
        """Where the rule's output goes: `JOB/rule-output/RULE` below its own S3OutputPath, or the job's."""
        place = self.config.get("S3OutputPath") or self.document["OutputDataConfig"]["S3OutputPath"]
        return Uri.parse(place).join(self.document["TrainingJobName"], "rule-output", self.name.replace("/", "-"))

    @property
    def problem(self) -> str:
        """Why it cannot be evaluated; empty when it can."""
        image, member = str(self.config["RuleEvaluatorImage"]), _TENSORS[self.kind][0]
        if not _EVALUATORS.search(image):
            return (
                f"RuleEvaluatorImage is '{image}'. Kennel's rules stand for AWS's images (sagemaker-debugger-rules, "
                "sagemaker-debugger-rule-evaluator); others are not run. Send your rule's code as source_s3_uri."
            )
        if self.source is None:
            return f"The request has no {member}.S3OutputPath, so there is nothing to read. Add {member}."
        return ""

    @property
    def stops_training(self) -> bool:
        """Whether the job is to be stopped when the rule fires."""
        on_fire = self.parameters.get("stop_training_on_fire", "").lower() == "true"
        return on_fire or any(action == "stoptraining" for action in self._actions())

    @property
    def unheard_actions(self) -> list[str]:
        """Actions that do nothing here."""
        return [action for action in self._actions() if action != "stoptraining"]

    def _actions(self) -> Iterator[str]:
        text = self.parameters.get("action_json", "").replace('\\"', '"')  # the SDK escapes it for a shell
        try:
            value = json.loads(text) if text.strip() else []
        except ValueError:
            return
        for action in value if isinstance(value, list) else [value]:
            if isinstance(action, dict):
                yield str(action.get("name", "")).lower()

    def command(self, source: str, folder: Path) -> tuple[str, ...]:
        """The program that evaluates it.

        Args:
            source: the tensors or the profile, as a URI or a path.
            folder: the rule's own, with parameters.json; its `output` is uploaded.
        """
        program = (sys.executable, "-m", INSIGHT)
        given = ("--parameters", str(folder / "parameters.json"))
        if self.kind == PROFILER:
            output = ("--output", str(folder / "output/profiler-output"))
            paper = () if self.rule == "ProfilerReport" else ("--no-pdf",)
            return (*program, "report", source, "--rule", self.rule, *given, *output, *paper)
        custom = self.parameters.get("source_s3_uri")
        return (
            *program, "rules", source, "--rules", self.rule, *(("--custom", custom) if custom else ()), *given,
            "--until", str(folder / "ended"), "--output", str(folder / "output/findings.json"),
        )  # fmt: skip


def requests_of(document: Mapping[str, Any]) -> list[RuleRequest]:
    """All rules of a training job."""
    return [
        RuleRequest(kind, index, config, document)
        for kind, member in _REQUESTED.items()
        for index, config in enumerate(document.get(member) or [])
    ]


def rule_refusals(request: Mapping[str, Any]) -> list[str]:
    """Sentences about rules that share a name, as AWS refuses them."""
    found = []
    for member in _REQUESTED.values():
        names = [config["RuleConfigurationName"] for config in request.get(member) or []]
        twice = sorted({name for name in names if names.count(name) > 1})
        found += [f"{member} has the RuleConfigurationName '{name}' twice; names must be unique." for name in twice]
    return found
