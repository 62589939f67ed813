"""The trainings of trainings.py, each made once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kennel.insight.judging.choice import parse
from kennel.insight.judging.evaluation import Evaluation, makers_of
from kennel.insight.tensors.sources import opened

Judge = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each."""
    folder = tmp_path_factory.mktemp("trainings")
    program = Path(__file__).with_name("trainings.py")
    done = subprocess.run([sys.executable, program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "could not save" not in done.stderr
    return folder


def judge(source: Path | str, rules: str) -> dict[str, Any]:
    """What the rules say at the end of a run."""
    with opened(str(source)) as place:
        evaluation = Evaluation(place, makers_of(parse(rules)), place.scratch)
        evaluation.advance(final=True)
        return evaluation.to_json()


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {row["rule"]: row["status"] for row in result["rules"]}
