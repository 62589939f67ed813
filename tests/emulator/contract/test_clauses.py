"""docs/contracts.md: every clause of the contract has tests, and every test that it names is there, on both runners."""

from __future__ import annotations

import json
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


LISTING = """
import json, pathlib, sys
import pytest

class Listing:
    def pytest_collection_finish(self, session):
        items = [[i.originalname, i.location[0], i.get_closest_marker("docker") is not None] for i in session.items]
        pathlib.Path(sys.argv[1]).write_text(json.dumps(items))

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "tests/emulator"], plugins=[Listing()]))
"""
BOTH = {"process", "docker"}
Collected = dict[str, dict[str, set[str]]]  # by the tests' names: their files, and the runners that each has


@dataclass(frozen=True)
class Row:
    """One clause, with the runners that the page claims of each test."""

    part: str
    clause: str
    tests: tuple[tuple[str, frozenset[str]], ...]


def rows() -> list[Row]:
    found, part = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        part = line[3:] if line.startswith("## ") else part
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| ") or cells[0] == "clause":
            continue
        named = re.findall(r"`(test_\w+)`(?: \((process|docker)\))?", cells[-1])
        tests = tuple((name, frozenset({runner} if runner else BOTH)) for name, runner in named)
        found.append(Row(part, cells[0], tests))
    return found


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    listing = tmp_path_factory.mktemp("listing") / "tests.json"
    done = subprocess.run(
        [sys.executable, "-c", LISTING, str(listing)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: Collected = {}
    for name, file, is_docker in json.loads(listing.read_text()):
        found.setdefault(name, {}).setdefault(file, set()).add("docker" if is_docker else "process")
    return found


def test_every_clause_has_its_row() -> None:
    listed = {part: [row.clause for row in rows() if row.part == part] for part in CLAUSES}
    assert listed == CLAUSES


def test_every_clause_has_tests_on_both_runners() -> None:
    covered = {(row.part, row.clause): {runner for _, runners in row.tests for runner in runners} for row in rows()}
    assert [clause for clause, runners in covered.items() if runners != BOTH] == []


def test_every_test_that_is_named_is_there_with_the_runners_that_the_page_says(collected: Collected) -> None:
    wrong = []
    for row in rows():
        for name, runners in row.tests:
            files = collected.get(name, {})
            if [set(runners)] != list(files.values()):
                wrong.append(f"{row.clause}: {name}: {files or 'there is no such test'}")
    assert wrong == []
