"""What a request asks for beside its images."""

from __future__ import annotations

import pytest

from serving.handler.options import DEFAULT_TOP_K, Options, read_options
from tests.serving.serving_harness import refused

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("query", "attributes", "options"),
    [
        ({}, None, Options(top_k=DEFAULT_TOP_K)),
        ({"top_k": "3"}, None, Options(top_k=3)),
        ({"top_k": b"3"}, None, Options(top_k=3)),
        ({}, "top_k=2", Options(top_k=2)),
        ({}, "trace=abc; top_k=2", Options(top_k=2)),
        ({}, "not_top_k=2", Options()),
        ({"top_k": "3"}, "top_k=2", Options(top_k=3)),
        ({"explain": "true", "timings": "1"}, "report_errors=yes", Options(5, True, True, True)),
        ({"explain": "0"}, "explain=1", Options()),
    ],
)
def test_options_come_from_the_query_then_the_custom_attributes(query, attributes, options):
    assert read_options(query, attributes) == options


def test_the_servers_own_default_is_kept_where_nothing_is_asked_for():
    assert read_options({}, None, Options(report_errors=True)).report_errors
    assert not read_options({"report_errors": "false"}, None, Options(report_errors=True)).report_errors


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "", "\u0661", "9" * 5000])
def test_top_k_must_be_a_whole_number_of_at_least_one(value):
    assert "top_k" in refused(400, "invalid_parameter", read_options, {"top_k": value})


def test_a_switch_is_true_or_false():
    assert "explain is 'maybe'" in refused(400, "invalid_parameter", read_options, {"explain": "maybe"})


def test_an_unknown_query_parameter_is_refused_with_the_likely_name():
    assert "Did you mean 'top_k'?" in refused(400, "invalid_parameter", read_options, {"topk": "3"})
    assert "'colour'" in refused(400, "invalid_parameter", read_options, {"colour": "red"})
