"""docs/contracts.md: every clause of the contract has tests, and every test that it names is there, on both runners."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/contracts.md"
CLAUSES = {
    "Training": [
        "Start", "Hyperparameters", "Channels", "Resources", "Other config files", "Environment", "`SM_*` variables",
        "File mode", "FastFile mode", "Pipe mode", "Outputs", "Failure", "Stop", "Checkpoints", "Metrics",
        "Host metrics", "Tuning",
    ],
    "Hosting": [
        "Start", "`/ping`", "`/invocations`", "Stop", "Payload", "Serverless", "Asynchronous", "Batch", "Many models",
        "Port", "Toolkit variables", "GPU machine image",
    ],
}  # fmt: skip
PENDING = {"Tuning"}


@dataclass(frozen=True)
class Row:
    """One clause."""

    part: str
    clause: str
    everywhere: tuple[str, ...]  # tests on both runners
    process_only: tuple[str, ...]


def rows() -> list[Row]:
    found, part = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        part = line[3:] if line.startswith("## ") else part
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| ") or cells[0] == "clause":
            continue
        named = re.findall(r"`(test_\w+)`( \(process\))?", cells[-1])
        everywhere, only = ([name for name, mark in named if bool(mark) == wanted] for wanted in (False, True))
        found.append(Row(part, cells[0], tuple(everywhere), tuple(only)))
    return found


@pytest.fixture(scope="module")
def collected() -> dict[str, dict[str, set[str]]]:
    """By the tests' names: their files, and the runners that each has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/emulator"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    found: dict[str, dict[str, set[str]]] = {}
    for file, name, parameters in re.findall(r"^(\S+\.py)::(\w+)(?:\[(.*)\])?$", listing, re.MULTILINE):
        runners = {"process", "docker"} & set(parameters.split("-"))
        found.setdefault(name, {}).setdefault(file, set()).update(runners)
    assert len(found) > 100, listing
    return found


def test_every_clause_has_its_row() -> None:
    listed = {part: [row.clause for row in rows() if row.part == part] for part in CLAUSES}
    assert listed == CLAUSES


def test_every_clause_has_a_test_on_both_runners() -> None:
    assert [f"{row.part}: {row.clause}" for row in rows() if not row.everywhere and row.clause not in PENDING] == []


def test_every_test_that_is_named_is_there_with_the_runners_that_the_page_says(
    collected: dict[str, dict[str, set[str]]],
) -> None:
    wrong = []
    for row in rows():
        for name in (*row.everywhere, *row.process_only):
            files = collected.get(name, {})
            runners = next(iter(files.values())) if len(files) == 1 else None
            expected = [set(), {"process"}] if name in row.process_only else [{"process", "docker"}]
            if runners not in expected:
                wrong.append(f"{row.clause}: {name}: {files or 'there is no such test'}")
    assert wrong == []
