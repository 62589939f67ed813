"""The profiler rules by AWS's names."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from kennel.insight.profile.rules.base import ProfilerRule
from kennel.insight.profile.rules.batch_size import BatchSize
from kennel.insight.profile.rules.cpu_bottleneck import CPUBottleneck
from kennel.insight.profile.rules.dataloader import Dataloader
from kennel.insight.profile.rules.gpu_memory_increase import GPUMemoryIncrease
from kennel.insight.profile.rules.io_bottleneck import IOBottleneck
from kennel.insight.profile.rules.load_balancing import LoadBalancing
from kennel.insight.profile.rules.low_gpu_utilization import LowGPUUtilization
from kennel.insight.profile.rules.max_initialization_time import MaxInitializationTime
from kennel.insight.profile.rules.overall_framework_metrics import OverallFrameworkMetrics
from kennel.insight.profile.rules.overall_system_usage import OverallSystemUsage
from kennel.insight.profile.rules.step_outlier import StepOutlier

REPORT = "ProfilerReport"  # not a rule of its own: all of them, and the report
RULES: dict[str, Any] = {
    rule.__name__: rule
    for rule in (
        BatchSize,
        CPUBottleneck,
        Dataloader,
        GPUMemoryIncrease,
        IOBottleneck,
        LoadBalancing,
        LowGPUUtilization,
        MaxInitializationTime,
        StepOutlier,
        OverallSystemUsage,
        OverallFrameworkMetrics,
    )
}


class RuleParameterError(Exception):
    """A rule or a parameter that is none, or a value that does not fit; all of them at once."""


def build(parameters: Mapping[str, str], only: str = REPORT) -> dict[str, ProfilerRule]:
    """The rules with their parameters.

    Args:
        parameters: RuleParameters as a request carries them: strings. For ProfilerReport the names are
            `<Rule>_<parameter>`, in any case; for one rule they are the parameter's own. `rule_to_invoke` is no
            parameter and is passed over.
        only: the rule's name, or ProfilerReport for all of them.

    Raises:
        RuleParameterError: with every mistake.
    """
    known = {name.lower(): name for name in RULES}
    if only != REPORT and only.lower() not in known:
        raise RuleParameterError(f"'{only}' is no profiler rule{_guess(only, [*RULES, REPORT])}.")
    chosen = list(RULES) if only == REPORT else [known[only.lower()]]
    values: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    wrong: list[str] = []
    for key, text in parameters.items():
        if key == "rule_to_invoke":
            continue
        prefix, _, parameter = key.partition("_") if only == REPORT else (only, "", key)
        rule = known.get(prefix.lower())
        if rule is None:
            wrong.append(f"'{key}': '{prefix}' is no profiler rule{_guess(prefix, list(RULES))}.")
            continue
        try:
            values[rule][parameter.lower()] = _value(RULES[rule], parameter.lower(), text)
        except ValueError as error:
            wrong.append(f"'{key}': {error}")
    if wrong:
        raise RuleParameterError(" ".join(wrong))
    return {name: RULES[name](**values[name]) for name in chosen}


def _value(rule: Any, parameter: str, text: str) -> Any:
    fields = {field.name: field.default for field in dataclasses.fields(rule)}
    if parameter not in fields:
        raise ValueError(f"{rule.__name__} has no parameter '{parameter}'{_guess(parameter, list(fields))}.")
    if fields[parameter] is None:  # StepOutlier's mode
        if str(text).upper() not in ("TRAIN", "EVAL", "NONE", ""):
            raise ValueError(f"{parameter} is '{text}'; write TRAIN or EVAL.")
        return str(text).upper() if str(text).upper() in ("TRAIN", "EVAL") else None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{parameter} is '{text}'; write a number.") from None
    if not 0 <= value < float("inf"):
        raise ValueError(f"{parameter} is {text}; write a number from 0.")
    return int(value) if value == int(value) else value


def _guess(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1)
    return f"; did you mean '{next(name for name in known if name.lower() == close[0])}'?" if close else ""
