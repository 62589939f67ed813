"""docs/serving.md names what the code has."""

from __future__ import annotations

import re

import pytest

from tests.serving.serving_harness import ROOT

pytestmark = pytest.mark.pure

SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "serving").rglob("*.py")))
PAGE = (ROOT / "docs/serving.md").read_text()
CODES = set(re.findall(r'\d{3}, "([a-z_]+)"', SOURCE)) | set(re.findall(r'\d{3},\s+"([a-z_]+)",', SOURCE))
VARIABLES = set(re.findall(r"\b(?:KENNEL|SAGEMAKER)_[A-Z_]+\b", SOURCE))


def test_the_patterns_find_what_they_look_for():
    assert {"queue_full", "invalid_image", "body_timeout", "internal_error"} <= CODES
    assert {"KENNEL_HOST", "SAGEMAKER_BIND_TO_PORT"} <= VARIABLES


@pytest.mark.parametrize("name", sorted(CODES | VARIABLES))
def test_every_code_and_variable_is_documented(name):
    assert f"`{name}`" in PAGE
