"""Rules on a machine without smdebug and what it needs: the same findings, and a sentence for rules of its class."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kennel.insight.judging.smdebug_trial import REQUIREMENTS
from tests.insight.conftest import judge
from tests.insight.test_custom import GUIDE

ABSENT = ("smdebug", "pandas", "requests", "pyinstrument", "google.protobuf", "psutil")
REFUSING = f"""
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if any(name == absent or name.startswith(absent + ".") for absent in {ABSENT!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refusing())
"""
RULES = "auto,DeadRelu,TensorVariance:collection_names=weights:max_threshold=1e-3"


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which no process can import them, children included."""
    (tmp_path / "sitecustomize.py").write_text(REFUSING)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "KENNEL_HOME": str(tmp_path / "home")}
    for name in ABSENT:
        done = subprocess.run([sys.executable, "-c", f"import {name}"], env=environ, capture_output=True, check=False)
        assert b"ModuleNotFoundError" in done.stderr, name
    return environ


def run(environ: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("program", ["kennel.insight", "kennel.driver"])
@pytest.mark.parametrize("training", ["dead_relu", "configured"])
def test_rules_find_the_same(trainings: Path, bare: dict[str, str], program: str, training: str) -> None:
    done = run(bare, program, "rules", trainings / training, "--rules", RULES, "--json")
    assert done.returncode == 0, done.stderr
    expected = json.loads(json.dumps(judge(trainings / training, RULES)))
    assert json.loads(done.stdout)["findings"] == expected["findings"]
    assert json.loads(done.stdout)["rules"] == expected["rules"]
    assert expected["findings"] or training == "configured"


def test_a_rule_of_smdebugs_class_says_what_to_install(trainings: Path, bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "guide.py"
    file.write_text(GUIDE)
    done = run(bare, "kennel.insight", "rules", trainings / "sound", "--custom", file)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "cannot be imported: ModuleNotFoundError: No module named 'smdebug'" in line
    assert "Rules of smdebug's class need smdebug: pip install 'smdebug==1.0.34'" in line


def test_a_rule_of_kennels_class_runs(trainings: Path, bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("""if True:
        from kennel.insight.rules.base import Rule

        class Always(Rule):
            needs = "nothing"

            def look(self, step):
                self.datapoints += 1
                yield self.found(step, "x", 1.0, 0.0, "It is so.", "Leave it.")
    """)
    done = run(bare, "kennel.insight", "rules", trainings / "sound", "--custom", file, "--json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["rules"]
    assert (row["status"], row["triggered"]) == ("IssuesFound", row["datapoints"])


def test_what_is_to_install_is_what_the_train_image_has() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(REQUIREMENTS) <= {*extras["train"], *extras["model"]}
    assert not {re.split("[<=>]", line)[0] for line in extras["insight"]} & {"smdebug", "requests", "psutil"}
