"""Rules of users: a Python file with a subclass of smdebug's `Rule`, run as smdebug's users know it, or of Kennel's."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kennel.insight.errors import InsightError
from kennel.insight.judging.smdebug_trial import REQUIREMENTS, SmdebugTrial, rule_class
from kennel.insight.rules.base import Rule
from kennel.insight.tensors.finding import Finding
from kennel.insight.tensors.parameters import fill
from kennel.insight.tensors.trial import Step, Trial


class CustomRule:
    """A user's rule, asked at each step by its own `invoke`, which fetches what `set_required_tensors` names."""

    def __init__(self, rule: Any, parameters: Mapping[str, Any], theirs: SmdebugTrial) -> None:
        """Take an instance of smdebug's Rule, and the trial that it asks."""
        self._rule, self._theirs = rule, theirs
        self._given = dict(parameters)
        self.datapoints = 0

    @property
    def parameters(self) -> dict[str, Any]:
        """What the rule's constructor was given."""
        return self._given

    def look(self, step: Step) -> Iterator[Finding]:
        """Call `invoke`; the rule fired when it returned True or raised RuleEvaluationConditionMet."""
        from smdebug.exceptions import (
            NoMoreData,
            RuleEvaluationConditionMet,
            StepUnavailable,
            TensorUnavailable,
            TensorUnavailableForStep,
        )

        if not self._theirs.has(step.number):
            return  # smdebug would wait for it
        try:
            self._rule.invoke(step.number)
            self.datapoints += 1
        except (NoMoreData, StepUnavailable, TensorUnavailable, TensorUnavailableForStep):
            return  # smdebug's own invoker passes over these, too
        except RuleEvaluationConditionMet:
            self.datapoints += 1
            name = type(self._rule).__name__
            sentence = f"{name}.invoke_at_step({step.number}) returned True."
            yield Finding(name, step.mode_step, step.mode, "", 1.0, 0.0, sentence, "See the rule's own description.")

    def wait(self, now_s: float) -> Iterator[Finding]:  # noqa: ARG002 - the shape of a judge
        """Users' rules know nothing of it."""
        return iter(())

    def finish(self) -> Iterator[Finding]:
        """Users' rules know nothing of it."""
        return iter(())

    def lacking(self) -> str:
        """Why the rule was never asked in earnest."""
        return "" if self.datapoints else "not enough data: none of the steps has the tensors that the rule asks for"


def load(file: Path, name: str, given: Mapping[str, str]) -> Callable[[Trial], Any]:
    """Read a rule from a file.

    Args:
        file: Python source.
        name: the class; empty where there is only one subclass of `Rule`.
        given: its constructor's arguments but base_trial, as strings; they are read by their defaults' types.

    Raises:
        InsightError: there is no such file, class or argument, or a package that the file imports is not installed.
    """
    if not file.is_file():
        raise InsightError(f"There is no file {file} with a rule.")
    _accept_the_documented_constructor()
    module = _module(file)
    found = _class(module, file, name)
    if issubclass(found, Rule):
        return lambda trial: found(trial, given)
    arguments = _arguments(found, given)
    return lambda trial: _judge(found, SmdebugTrial(trial), arguments)


def _module(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"kennel_custom_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InsightError(f"{file} is no Python file. Name it *.py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InsightError(f"{file} cannot be imported: {type(error).__name__}: {error}.{_hint(file)}") from error
    return module


def _hint(file: Path) -> str:
    """What to install, where smdebug is missing or something that it does not declare."""
    if rule_class() is not None or b"smdebug" not in file.read_bytes():
        return ""
    wanted = " ".join(f"'{requirement}'" for requirement in REQUIREMENTS)
    return f" Rules of smdebug's class need smdebug: pip install {wanted}"


def _class(module: Any, file: Path, name: str) -> Any:
    bases = tuple(filter(None, (rule_class(), Rule)))
    own = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, bases) and value.__module__ == module.__name__
    }
    if name and name in own:
        return own[name]
    if not name and len(own) == 1:
        return next(iter(own.values()))
    raise InsightError(
        f"{file} has {'no rule' if name else 'not one rule but'} {name or len(own)}. "
        f"Name one of its subclasses of smdebug.rules.rule.Rule: {', '.join(own) or 'there are none'}."
    )


def _arguments(found: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """Strings by the types of the defaults; without a default a string stays one."""
    from dataclasses import field, make_dataclass

    wanted = {
        name: parameter
        for name, parameter in inspect.signature(found.__init__).parameters.items()
        if name not in ("self", "base_trial", "action_str", "other_trials")
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    fields = [
        (name, Any, field(default="" if p.default is p.empty else p.default, metadata={"own": True, "about": ""}))
        for name, p in wanted.items()
        if p.default is p.empty or not isinstance(p.default, list | dict | set)
    ]
    filled = fill(found.__name__, make_dataclass("Arguments", fields, frozen=True), given)
    known = {name: getattr(filled, name) for name, *_ in fields}
    missing = [name for name, p in wanted.items() if p.default is p.empty and name not in given]
    if missing:
        raise InsightError(f"{found.__name__} needs {', '.join(missing)}. Give them as parameters.")
    return known


def _judge(found: Any, theirs: SmdebugTrial, arguments: Mapping[str, Any]) -> CustomRule:
    extra = {"action_str": None} if "action_str" in inspect.signature(found.__init__).parameters else {}
    return CustomRule(found(theirs.trial, **extra, **arguments), arguments, theirs)


def _accept_the_documented_constructor() -> None:
    """The developer guide's examples call `super().__init__(base_trial)`; smdebug 1.0.34 asks for `action_str`, too."""
    theirs = rule_class()
    if theirs is not None:
        theirs.__init__.__defaults__ = (None, None)
