"""Users' own rules, written as the developer guide shows them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kennel.insight.errors import InsightError
from kennel.insight.judging.custom import load
from kennel.insight.judging.evaluation import Evaluation
from kennel.insight.tensors.sources import opened

# The example of the developer guide, "Create Debugger Custom Rules for Training Job Analysis".
GUIDE = """
from smdebug.rules.rule import Rule

class CustomGradientRule(Rule):
    def __init__(self, base_trial, threshold=10.0):
        super().__init__(base_trial)
        self.threshold = float(threshold)

    def invoke_at_step(self, step):
        for tname in self.base_trial.tensor_names(collection="gradients"):
            t = self.base_trial.tensor(tname)
            abs_mean = t.reduction_value(step, "mean", abs=True)
            if abs_mean > self.threshold:
                return True
        return False
"""
OWN = """
from smdebug.rules import Rule

class Asks(Rule):
    def __init__(self, base_trial, action_str, tensor, limit=1):
        super().__init__(base_trial, action_str)
        self.tensor, self.limit = tensor, limit

    def set_required_tensors(self, step):
        self.req_tensors.add(self.tensor, steps=[step])

    def invoke_at_step(self, step):
        [tensor] = self.req_tensors.get()
        return isinstance(self.limit, int) and tensor.value(step).mean() > self.limit

class Crashes(Rule):
    def __init__(self, base_trial):
        super().__init__(base_trial)

    def invoke_at_step(self, step):
        raise ZeroDivisionError("by the user")
"""


def run(trainings: Path, training: str, file: Path, name: str = "", **given: str) -> dict[str, Any]:
    with opened(str(trainings / training)) as source:
        evaluation = Evaluation(source, [("own", load(file, name, given))], source.scratch)
        evaluation.advance(final=True)
        return evaluation.to_json()


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    file = tmp_path / "guide.py"
    file.write_text(GUIDE)
    return file


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def test_the_example_of_the_developer_guide_runs_as_it_is_printed(trainings: Path, guide: Path) -> None:
    quiet = run(trainings, "sound", guide)["rules"][0]
    assert quiet["status"] == "NoIssuesFound"
    assert quiet["parameters"] == {"threshold": 10.0}
    fired = run(trainings, "sound", guide, threshold="1e-9")
    assert fired["rules"][0]["status"] == "IssuesFound"
    assert fired["findings"][0]["sentence"] == "CustomGradientRule.invoke_at_step(0) returned True."


def test_required_tensors_and_typed_arguments_reach_the_rule(trainings: Path, own: Path) -> None:
    loss = "CrossEntropyLoss_output_0"
    assert run(trainings, "sound", own, "Asks", tensor=loss, limit="0")["rules"][0]["triggered"] > 50
    assert run(trainings, "sound", own, "Asks", tensor=loss, limit="5")["rules"][0]["status"] == "NoIssuesFound"
    assert "none of the steps has the tensors" in run(trainings, "sound", own, "Asks", tensor="x")["rules"][0]["detail"]


def test_a_rule_that_crashes_is_an_error_with_its_place(trainings: Path, own: Path) -> None:
    [row] = run(trainings, "sound", own, "Crashes")["rules"]
    assert row["status"] == "Error"
    assert row["detail"] == "ZeroDivisionError: by the user (own.py, line 21)"


@pytest.mark.parametrize("junk", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"meta": {"mode": "NONE", "mode_step": 0}}'])
def test_an_index_that_cannot_be_read_costs_a_rule_its_step_only(
    trainings: Path, guide: Path, tmp_path: Path, junk: bytes
) -> None:
    shutil.copytree(trainings / "sound", tmp_path / "sound")
    first, *others = sorted((tmp_path / "sound/output/data/tensors").glob("index/*/*.json"))
    first.write_bytes(junk)
    result = run(tmp_path, "sound", guide)
    assert (result["rules"][0]["status"], result["steps"]) == ("NoIssuesFound", len(others))
    assert "The index of step 0 cannot be read" in result["notes"][0]


def test_what_is_wrong_with_a_file_is_said(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InsightError, match="not one rule but 2.*: Asks, Crashes"):
        load(own, "", {})
    with pytest.raises(InsightError, match="has no rule Ask"):
        load(own, "Ask", {})
    with pytest.raises(InsightError, match="Asks needs tensor"):
        load(own, "Asks", {})
    with pytest.raises(InsightError, match="no parameter 'limits'; did you mean 'limit'"):
        load(own, "Asks", {"tensor": "x", "limits": "2"})
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind")
    with pytest.raises(InsightError, match="cannot be imported: ModuleNotFoundError"):
        load(tmp_path / "broken.py", "", {})
    with pytest.raises(InsightError, match="There is no file"):
        load(tmp_path / "absent.py", "", {})
