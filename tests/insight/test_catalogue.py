"""Documentation of the rules cannot drift from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kennel.insight.commands.catalogue import markdown
from kennel.insight.rules import RULES

pytestmark = pytest.mark.pure

PAGE = Path(__file__).parents[2] / "docs/rules.md"


def test_the_tables_are_the_codes_own() -> None:
    shown = re.search(r"<!-- catalogue -->\n(.*)<!-- /catalogue -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown
    assert shown[1] == markdown(), "run: python -m kennel.insight catalogue"


def test_every_rule_names_its_source_and_what_it_needs() -> None:
    for name, rule in RULES.items():
        assert "Source: SageMaker developer guide" in (rule.__doc__ or ""), name
        assert rule.needs, name
