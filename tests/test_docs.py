"""Documentation cannot drift from the code."""

import re
import subprocess
from pathlib import Path

import pytest

from kennel.contract.hyperparameters import markdown_table
from tests import rooms

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_hyperparameter_table_is_the_codes_own() -> None:
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- hyperparameters -->\n(.*)<!-- /hyperparameters -->", page, re.DOTALL)
    assert shown
    assert shown[1] == markdown_table(), "run: python -m kennel.classifier hyperparameters"


def test_the_table_of_rooms_is_the_codes_own() -> None:
    shown = rooms.BETWEEN.search(rooms.PAGE.read_text(encoding="utf-8"))
    assert shown
    assert shown[0] == rooms.table(), "run: python tests/rooms.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            assert not heading or heading in anchors(file), f"{page.name}: {target}#{heading}"


def anchors(page: Path) -> set[str]:
    """The names by which links find a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short_and_the_index_names_every_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert set(re.findall(r"\]\((\S+\.md)\)", index)) == pages


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_paths_in_code_style_exist_in_the_tree(page: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = set(listed.stdout.splitlines())
    folders = {str(parent) for file in files for parent in Path(file).parents}
    for word in re.findall(
        r"`((?:src|serving|docker|local_test|tests|docs|examples|bench)/[\w./-]*)`", page.read_text("utf-8")
    ):
        assert word in files or word.rstrip("/") in folders, f"{page.name} names {word}, which is not there"


def test_every_make_target_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"\bmake ([a-z][a-z-]+)\b`", page.read_text(encoding="utf-8")))
        assert named <= targets, page.name
