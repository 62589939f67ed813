"""The JSONPath of filters: all that SageMaker documents, and a sentence about everything else."""

from __future__ import annotations

from typing import Any

import pytest

from kennel.emulator.transform.json_path import JsonPath, PathError

pytestmark = pytest.mark.pure

VALUE = {"id": 7, "a b": 1, "features": [10, 20, 30, 40], "rows": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "o": {"k": 5}}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", VALUE),
        ("$.id", 7),
        ("$['id']", 7),
        ("$['a b']", 1),
        ('$["id"]', 7),
        ("$.features", [10, 20, 30, 40]),
        ("$.features[1]", 20),
        ("$.features[-1]", 40),
        ("$.features[0,2,-1]", [10, 30, 40]),
        ("$.features[1:]", [20, 30, 40]),
        ("$.features[-2:]", [30, 40]),
        ("$.features[:]", [10, 20, 30, 40]),
        ("$.features[0,2:]", [10, 30, 40]),
        ("$.features[4:]", []),
        ("$['id','o']", {"id": 7, "o": {"k": 5}}),
        ("$.rows[0].['x','y']", {"x": 1, "y": 2}),
        ("$.rows[*].x", [1, 3]),
        ("$.rows.*.x", [1, 3]),
        ("$.rows[1:].y", [4]),
        ("$.rows[0,1]['y']", [2, 4]),
        ("$.o.*", [5]),
    ],
)
def test_a_path_takes_its_part(path: str, expected: Any) -> None:
    assert JsonPath.parse(path).of(VALUE) == expected


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("id", "does not begin with \\$"),
        ("$..id", "does not know, at '..id'"),
        ("$.rows[?(@.x>1)]", "does not know, at '\\[\\?"),
        ("$.features.length()", "does not know, at '\\(\\)'"),
        ("$.features[1:3]", "disagree on whether the end is included"),
        ("$.features[:-1]", "disagree on whether the end is included"),
        ("$.features[::2]", "disagree|does not know"),
        ("$[]", "does not know"),
        ("$['a'", "does not know"),
        ("$.", "does not know"),
        ("$['a','b'].c", "goes on after several names"),
        ("$ id", "does not know"),
    ],
)
def test_what_is_no_path_of_sagemakers_is_told(path: str, sentence: str) -> None:
    with pytest.raises(PathError, match=sentence):
        JsonPath.parse(path)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("$.none", "no 'none'"),
        ("$['id','none']", "no 'none'"),
        ("$.id.deeper", "no 'deeper'"),
        ("$.features[4]", "4 values, and the filter asks for number 4"),
        ("$.features[-5]", "asks for number -5"),
        ("$.features[5:]", "begins at 5"),
        ("$.o[0]", "no list"),
        ("$.id[*]", "neither an object nor a list"),
    ],
)
def test_what_is_not_there_is_told(path: str, sentence: str) -> None:
    with pytest.raises(PathError, match=sentence):
        JsonPath.parse(path).of(VALUE)
